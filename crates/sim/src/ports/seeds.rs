//! The registry, the spool and what is in a seed.

use api::configuration::PublicKey;
use api::{DeploymentId, ImageRef, StaterootName};
use node::ports::{FetchRequest, PullSecret, SeedContent, SeedPin, SeedSignature, Seeds, Watch};
use node::{ErrorKind, PortError, PortResult};

use crate::machine::{CONTAINERS, Machine, REPOSITORY, deployment_directory, stateroot_directory};
use crate::node::Node;
use crate::seed_image::SeedImage;

/// Says in what was unpacked early which seed it is of.
const INCOMING_MARK: &str = ".complete";

/// Where `/var` is unpacked while its seed arrives.
fn incoming(stateroot: &StaterootName) -> String {
    format!("{}/incoming", stateroot_directory(stateroot))
}

fn spool() -> String {
    format!("{CONTAINERS}/lca/seed")
}

impl Node {
    fn offered(&self, image: &ImageRef) -> PortResult<SeedImage> {
        let found = self.see(|machine| machine.registry.get(image.as_str()).cloned());
        found.ok_or_else(|| {
            let text = format!("the registry does not have {image}");
            PortError::plain(ErrorKind::Permanent, text)
        })
    }

    /// The image with the pinned digest, whatever its tag stands for now.
    fn pinned(&self, pin: &SeedPin) -> PortResult<SeedImage> {
        let found = self.see(|machine| {
            let mut images = machine.registry.values();
            images.find(|image| image.pin.digest == pin.digest).cloned()
        });
        found.ok_or_else(|| {
            let text = format!("the registry does not have {}", pin.digest);
            PortError::plain(ErrorKind::Permanent, text)
        })
    }

    /// The seed, if all its blobs are in the spool.
    fn spooled(&self, pin: &SeedPin) -> PortResult<SeedImage> {
        let seed = self.pinned(pin)?;
        let complete = self.see(|machine| {
            let mut layers = pin.layers.iter();
            layers.all(|(digest, _)| {
                let blob = format!("{}/blobs/{}", spool(), digest.hex());
                machine.cache.text(&blob) == Some(digest.as_str())
            })
        });
        if complete {
            Ok(seed)
        } else {
            let text = format!("the spool does not hold the seed {}", pin.digest);
            Err(PortError::plain(ErrorKind::Transient, text))
        }
    }

    /// Puts what was unpacked early in place, from one moment to the next.
    fn take_incoming(&self, pin: &SeedPin, stateroot: &StaterootName) -> PortResult<bool> {
        let incoming = incoming(stateroot);
        let mark = format!("{incoming}{INCOMING_MARK}");
        let complete = self.see(|machine| machine.cache.text(&mark) == Some(pin.digest.as_str()));
        if complete {
            let var = format!("{}/var", stateroot_directory(stateroot));
            self.effect(|machine| {
                machine.cache.graft(&incoming, &var);
                machine.cache.remove(&mark);
                machine.sync_sysroot();
            })?;
        }
        Ok(complete)
    }

    /// Imports the objects of a commit.
    fn import(&self, commit: &str, watch: &dyn Watch) -> PortResult<()> {
        let known = self.see(|machine| machine.commits.get(commit).cloned());
        let Some(content) = known else {
            let text = format!("the seed does not hold commit {commit}");
            return Err(PortError::plain(ErrorKind::Permanent, text));
        };
        let objects = content.objects(commit).into_iter();
        let files =
            objects.map(|(name, content)| (format!("{REPOSITORY}/objects/{name}"), content));
        self.unpack("import an object", files, watch)
    }

    fn unpack(
        &self,
        what: &'static str,
        files: impl Iterator<Item = (String, String)>,
        watch: &dyn Watch,
    ) -> PortResult<()> {
        for (done, (path, content)) in (0..).zip(files) {
            self.operation(what, &path)?;
            if !watch.progress(done, None, &path) {
                return Err(PortError::stopped(format!("{what} {path}")));
            }
            self.effect(|machine| match path.strip_suffix('/') {
                Some(directory) => machine.cache.make_directory(directory, 0o755),
                None => machine.cache.write(&path, 0o644, content.into_bytes()),
            })?;
        }
        self.operation(what, &"to its end")
    }
}

impl Seeds for Node {
    fn resolve(
        &self,
        image: &ImageRef,
        _secret: &PullSecret,
        _watch: &dyn Watch,
    ) -> PortResult<SeedPin> {
        self.operation("resolve", image)?;
        self.offered(image).map(|seed| seed.pin)
    }

    fn verify(
        &self,
        pin: &SeedPin,
        keys: &[PublicKey],
        _secret: &PullSecret,
        _watch: &dyn Watch,
    ) -> PortResult<SeedSignature> {
        self.operation("verify", &pin.digest)?;
        let signature = self.pinned(pin)?.signature;
        let known = signature.filter(|found| keys.contains(&found.key));
        known.ok_or_else(|| {
            let text = format!("image {} is not signed with any of the keys", pin.image);
            PortError::plain(ErrorKind::Permanent, text)
        })
    }

    fn fetch(
        &self,
        request: &FetchRequest,
        _secret: &PullSecret,
        watch: &dyn Watch,
    ) -> PortResult<SeedContent> {
        let FetchRequest { pin, stateroot, .. } = request;
        self.operation("fetch", &pin.digest)?;
        let seed = self.pinned(pin)?;
        for (done, (digest, size)) in (0..).zip(&pin.layers) {
            if !watch.progress(done, None, digest.as_str()) {
                return Err(PortError::stopped(format!("fetching blob {digest}")));
            }
            let blob = format!("{}/blobs/{}", spool(), digest.hex());
            if self.see(|machine| machine.cache.get(&blob).is_some()) {
                continue;
            }
            let part = format!("{blob}.part");
            let half = vec![b'.'; usize::try_from(size / 2).unwrap_or(1)];
            self.effect(|machine| machine.cache.write(&part, 0o600, half))?;
            self.operation("fetch: half a blob", digest)?;
            self.effect(|machine| {
                machine.cache.remove(&part);
                machine.disk.remove(&part);
                machine.write_durably(&blob, 0o600, digest.as_str().as_bytes());
            })?;
            self.operation("fetch: a blob", digest)?;
        }
        // What is done while the seed arrives, as far as it can be seen: nothing of it before the seed is verified.
        self.import(&seed.content.commit, watch)?;
        self.effect(Machine::sync_sysroot)?;
        let incoming = incoming(stateroot);
        self.effect(|machine| machine.cache.remove(&incoming))?;
        let files = seed.var.into_iter();
        let files = files.map(|(path, content)| (format!("{incoming}/{path}"), content));
        self.unpack("fetch: unpack var", files, watch)?;
        self.effect(Machine::sync_sysroot)?;
        self.operation("fetch: not marked", &pin.digest)?;
        let mark = format!("{incoming}{INCOMING_MARK}");
        self.effect(|machine| machine.write_durably(&mark, 0o600, pin.digest.as_str().as_bytes()))?;
        self.operation("fetched", &pin.digest)?;
        Ok(seed.content)
    }

    fn import_commit(&self, pin: &SeedPin, commit: &str, watch: &dyn Watch) -> PortResult<()> {
        self.operation("import_commit", &commit)?;
        self.spooled(pin)?;
        self.import(commit, watch)
    }

    fn unpack_var(
        &self,
        pin: &SeedPin,
        stateroot: &StaterootName,
        watch: &dyn Watch,
    ) -> PortResult<()> {
        self.operation("unpack_var", stateroot)?;
        let seed = self.spooled(pin)?;
        if self.take_incoming(pin, stateroot)? {
            return self.operation("unpack_var: taken", stateroot);
        }
        let var = format!("{}/var", stateroot_directory(stateroot));
        let files = seed.var.into_iter();
        let files = files.map(|(path, content)| (format!("{var}/{path}"), content));
        self.unpack("unpack var", files, watch)
    }

    fn unpack_etc(
        &self,
        pin: &SeedPin,
        deployment: &DeploymentId,
        watch: &dyn Watch,
    ) -> PortResult<()> {
        self.operation("unpack_etc", deployment)?;
        let seed = self.spooled(pin)?;
        let etc = format!("{}/etc", deployment_directory(deployment));
        let files = seed.etc.into_iter();
        let files = files.map(|(path, content)| (format!("{etc}/{path}"), content));
        self.unpack("unpack etc", files, watch)?;
        for path in seed.deleted {
            self.effect(|machine| machine.cache.remove(&format!("{etc}/{path}")))?;
            self.operation("unpack etc: deleted", &path)?;
        }
        Ok(())
    }

    fn discard(&self) -> PortResult<()> {
        self.operation("discard", &"")?;
        let below: Vec<String> = self.see(|machine| {
            let spool = spool();
            let below = machine.cache.below(&spool);
            below.map(|(path, _)| path.to_string()).collect()
        });
        for path in below.iter().rev() {
            self.effect(|machine| machine.cache.remove(path))?;
            self.operation("discard: an entry", path)?;
        }
        self.effect(|machine| machine.cache.remove(&spool()))?;
        self.operation("discarded", &"")
    }
}
