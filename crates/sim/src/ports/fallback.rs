//! The boot loader's way back: a GRUB that counts, as [`Machine::power_on`] obeys it.

use node::ports::{BootFallback, FallbackState};
use node::{ErrorKind, PortError, PortResult};

use crate::machine::{Armed, GRUB_CONFIGURATION, GRUB_DROP_IN, Machine};
use crate::node::Node;

impl BootFallback for Node {
    fn state(&self) -> PortResult<FallbackState> {
        self.operation("fallback state", &"")?;
        Ok(self.see(|machine| {
            if machine.cache.get(GRUB_CONFIGURATION).is_none() {
                return FallbackState::None("there is no grub.cfg".to_owned());
            }
            match Machine::variables(&machine.cache) {
                Some(Armed { entry, left }) => FallbackState::Armed { entry, left },
                None => FallbackState::Disarmed,
            }
        }))
    }

    fn arm(&self, entry: &str, attempts: u32) -> PortResult<()> {
        self.operation("arm", &entry)?;
        if self.see(|machine| machine.cache.get(GRUB_CONFIGURATION).is_none()) {
            let text = "there is no boot fallback here";
            return Err(PortError::plain(ErrorKind::Permanent, text));
        }
        self.effect(|machine| machine.write_durably(GRUB_DROP_IN, 0o600, *b"count"))?;
        self.operation("arm: nothing to count yet", &entry)?;
        self.effect(|machine| {
            machine.set_armed(Some(&Armed {
                entry: entry.to_owned(),
                left: attempts,
            }));
        })?;
        self.operation("armed", &entry)
    }

    fn disarm(&self) -> PortResult<()> {
        self.operation("disarm", &"")?;
        self.effect(|machine| machine.remove(GRUB_DROP_IN))?;
        self.operation("disarm: the variables are left", &"")?;
        self.effect(|machine| machine.set_armed(None))?;
        self.operation("disarmed", &"")
    }
}
