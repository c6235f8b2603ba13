//! The targets under libFuzzer: `hack/fuzz` says in `FUZZ_TARGET` which one.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let Some(target) = fuzz::target(&name) else {
        let names: Vec<&str> = fuzz::TARGETS.iter().map(|target| target.name).collect();
        eprintln!("FUZZ_TARGET is {name:?}, not one of {}", names.join(" "));
        std::process::exit(2);
    };
    target
});

fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
