//! Prints the CustomResourceDefinitions, as `lifecycle-agent crds` does.

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

fn main() {
    print!("{}", api::crd::crds_yaml());
}
