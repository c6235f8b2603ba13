//! What `hack/demo` runs: the product's main job, shown to a person.

#![expect(clippy::print_stdout, reason = "showing is what it is for")]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use boxed::site::{agent_binary, create_seed, seed_command, seed_image};
use boxed::{Lab, Node, NodeConfig, Release, Site};

fn main() -> Result<()> {
    let started = Instant::now();
    let mut fast = false;
    let mut keep = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--fast" => fast = true,
            "--keep" => keep = true,
            other => anyhow::bail!("unknown argument {other}: see hack/demo --help"),
        }
    }
    let site = prepare()?;
    let mut show = Show { site, watch: None };
    show.intro()?;
    show.upgrade()?;
    let mut line = "demo: 4.16.9 -> 4.17.4".to_owned();
    if !fast {
        show.rollback()?;
        show.idle("finalize the rollback: the target's stateroot goes")?;
        show.upgrade()?;
        line.push_str(", rolled back, 4.17.4");
    }
    show.idle("finalize: the old release goes")?;
    show.outro()?;
    line.push_str(", finalized");
    if keep {
        show.keep()?;
    }
    drop(show);
    println!("{line} in {} s", started.elapsed().as_secs());
    Ok(())
}

/// A seed node makes the seed, as its owner would; then the node to upgrade boots.
fn prepare() -> Result<Site> {
    let agent = agent_binary()?;
    title("a lab: a private network with a registry, a seed node of 4.17.4 and a site of 4.16.9");
    let lab = Lab::new("demo")?;
    let registry = lab.start_registry(None)?;
    let seed = lab.install(&NodeConfig::new("seed", Release::V4_17_4, 20).with_agent(&agent))?;
    let node = lab.install(&NodeConfig::new("site", Release::V4_16_9, 10).with_agent(&agent))?;
    seed.boot()?;
    node.boot()?;
    seed.wait_api()?;
    title("on the seed node: make a seed image of it and push it");
    println!("$ {}", seed_command(Release::V4_17_4).join(" "));
    let begun = Instant::now();
    print!("{}", create_seed(&seed, Release::V4_17_4)?);
    println!(
        "  (made and pushed in {:.1} s; the seed node serves again)",
        begun.elapsed().as_secs_f32()
    );
    seed.wait_api()?;
    seed.power_off_hard();
    node.wait_api()?;
    let site = Site {
        node,
        registry,
        lab,
    };
    site.wait(Duration::from_secs(60), |ibu| {
        !ibu["status"]["validNextStages"].is_null()
    })?;
    Ok(site)
}

struct Show {
    site: Site,
    watch: Option<Child>,
}

impl Show {
    fn node(&self) -> &Node {
        &self.site.node
    }

    /// Runs a command as a user would type it, and shows it.
    fn kubectl(&self, args: &[&str]) -> Result<()> {
        let typed: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
        println!("$ kubectl {}", typed.join(" "));
        print!("{}", self.node().kubectl(args)?);
        Ok(())
    }

    fn inside(&self, args: &[&str]) -> Result<()> {
        println!("{}# {}", self.node().name(), args.join(" "));
        let printed = self.node().run(args)?;
        print!(
            "{printed}{}",
            if printed.ends_with('\n') { "" } else { "\n" }
        );
        Ok(())
    }

    fn intro(&self) -> Result<()> {
        title("the site before");
        self.kubectl(&["get", "clusterversion,nodes"])?;
        self.kubectl(&["get", "ibu"])?;
        self.inside(&["ostree", "admin", "status"])
    }

    fn upgrade(&mut self) -> Result<()> {
        title("Prep: the seed becomes a second stateroot; the site goes on working");
        let image = seed_image(Release::V4_17_4);
        let version = Release::V4_17_4.version();
        let patch = format!(
            r#"{{"spec":{{"stage":"Prep","seedImageRef":{{"image":"{image}","version":"{version}"}}}}}}"#
        );
        self.stage("Prep", &patch, false)?;
        self.inside(&["ostree", "admin", "status"])?;
        title("Upgrade: over to the target with one reboot");
        self.stage("Upgrade", r#"{"spec":{"stage":"Upgrade"}}"#, true)?;
        self.inside(&["hostname"])?;
        self.kubectl(&["get", "clusterversion,nodes"])?;
        self.inside(&["ostree", "admin", "status"])
    }

    fn rollback(&mut self) -> Result<()> {
        title("Rollback: the old release is one reboot away");
        self.stage("Rollback", r#"{"spec":{"stage":"Rollback"}}"#, true)?;
        self.kubectl(&["get", "clusterversion,nodes"])
    }

    fn idle(&mut self, what: &str) -> Result<()> {
        title(&format!("Idle: {what}"));
        self.stage("Idle", r#"{"spec":{"stage":"Idle"}}"#, false)
    }

    /// Patches, then follows with `lifecycle-agent watch` until the stage has ended.
    fn stage(&mut self, stage: &str, patch: &str, reboots: bool) -> Result<()> {
        let boots = self.node().boots();
        self.kubectl(&["patch", "ibu", "upgrade", "--type=merge", "-p", patch])?;
        self.follow()?;
        if reboots {
            self.node().wait_boot(boots + 1, Duration::from_secs(300))?;
            println!("  -- the node reboots --");
            self.node().wait_api()?;
            // The other stateroot's API server has certificates of its own.
            self.follow()?;
        }
        self.site.wait_stage(stage)?;
        if let Some(mut watch) = self.watch.take() {
            // It ends by itself when the stage has.
            watch.wait().context("waiting for lifecycle-agent watch")?;
        }
        self.kubectl(&["get", "ibu"])
    }

    fn follow(&mut self) -> Result<()> {
        if let Some(mut watch) = self.watch.take() {
            watch.kill()?;
            watch.wait()?;
        } else {
            println!("$ lifecycle-agent watch");
        }
        let kubeconfig = self.node().kubeconfig()?;
        let mut command: Command = self
            .site
            .lab
            .command(&agent_binary()?.display().to_string());
        let child = command
            .args(["watch", "--kubeconfig"])
            .arg(kubeconfig)
            .stdin(Stdio::null())
            .spawn()
            .context("starting lifecycle-agent watch")?;
        self.watch = Some(child);
        Ok(())
    }

    fn outro(&self) -> Result<()> {
        title("the site after");
        self.kubectl(&["get", "ibu"])?;
        self.inside(&["lifecycle-agent", "status"])
    }

    fn keep(&self) -> Result<()> {
        title("the node keeps running; press Enter to end it");
        let kubectl = self.node().kubectl_command(&["get", "ibu"])?;
        println!("{}", shown(&kubectl));
        println!("{}", shown(&self.node().command(&["bash"])?));
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        Ok(())
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        if let Some(mut watch) = self.watch.take() {
            let _ = watch.kill();
            let _ = watch.wait();
        }
    }
}

fn title(text: &str) {
    println!("\n== {text}");
}

fn quoted(argument: &str) -> String {
    if argument.contains(['{', '"', ' ']) {
        format!("'{argument}'")
    } else {
        argument.to_owned()
    }
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| quoted(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}
