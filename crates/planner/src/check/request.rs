//! What is asked for, and whether this node can be upgraded at all.

use api::{OcpVersion, message};

use super::subject::known;
use super::{Judged, Subject, failed, unknown};

/// What the user does about a spec that asks for something impossible.
pub(super) const NEXT: &str = "request stage Idle, correct it and request Prep again";

/// What is wrong with a version, as the contract's 3.2 item 1 begins it.
pub(super) fn unfit_version(text: impl std::fmt::Display) -> String {
    format!("{}{text}", message::INVALID_VERSION_PREFIX)
}

pub(super) fn one_node(subject: &Subject<'_>) -> Judged {
    match subject.cluster()?.nodes.as_slice() {
        [only] => Ok(only.clone()),
        nodes => {
            let text = message::not_one_node(nodes.len());
            failed(format!("{text}: {}", nodes.join(", ")))
        }
    }
}

pub(super) fn booted(subject: &Subject<'_>) -> Judged {
    match subject.booted {
        Ok(booted) => Ok(booted.to_string()),
        Err(error) => unknown(format!("which deployment is booted is not known: {error}")),
    }
}

pub(super) fn default_switch(subject: &Subject<'_>) -> Judged {
    let able = known(
        "whether the default deployment can be switched",
        &subject.node()?.default_switch,
    )?;
    if *able {
        Ok(String::new())
    } else {
        failed(
            "another deployment cannot be made the default: /boot/loader is no link of libostree's",
        )
    }
}

pub(super) fn boot_fallback(subject: &Subject<'_>) -> Judged {
    match &subject.node()?.boot_fallback {
        Ok(()) => Ok(String::new()),
        Err(why) => failed(format!(
            "a new release that does not come up stays where it is until somebody chooses the old one in the boot \
             loader's menu: {why}"
        )),
    }
}

pub(super) fn container_storage(subject: &Subject<'_>) -> Judged {
    if subject.node()?.containers_mounted {
        Ok(String::new())
    } else {
        failed(message::NO_CONTAINER_STORAGE_TARGET)
    }
}

pub(super) fn image(subject: &Subject<'_>) -> Judged {
    subject.image().map(|image| image.to_string())
}

pub(super) fn version(subject: &Subject<'_>) -> Judged {
    let seed = subject.version()?;
    let current = &subject.cluster()?.version;
    let current: OcpVersion = match current.parse() {
        Ok(current) => current,
        Err(error) => {
            let error: api::version::InvalidVersion = error;
            let text = message::current_version_unreadable(current, &error.to_string());
            return failed(unfit_version(text));
        }
    };
    if seed.is_higher_than(&current) {
        Ok(format!("{current} -> {seed}"))
    } else {
        failed(unfit_version(message::version_not_higher(&seed, &current)))
    }
}

pub(super) fn stateroot(subject: &Subject<'_>) -> Judged {
    let (stateroot, version) = (subject.stateroot()?, subject.version()?);
    if subject
        .booted
        .is_ok_and(|booted| booted.stateroot == stateroot)
    {
        return failed(format!(
            "stateroot {stateroot} of version {version} is the running one: {NEXT}"
        ));
    }
    Ok(stateroot.to_string())
}

/// Shortest time that a rollback must stay possible, in seconds: the longest maintenance window that users have.
const ROLLBACK_WINDOW: i64 = 4 * 3600;

/// Margin that the contract takes off (5.5), in seconds.
const EXPIRY_MARGIN: i64 = 30 * 60;

pub(super) fn rollback_certificates(subject: &Subject<'_>) -> Judged {
    let until = *known(
        "when the running release's certificates expire",
        &subject.node()?.certificates_until,
    )?;
    let until = api::Timestamp::from_unix(until - EXPIRY_MARGIN);
    let left = until.unix() - subject.now.unix();
    if left < ROLLBACK_WINDOW {
        return failed(format!(
            "a rollback is possible until {until} only, when the running release's certificates expire: \
             let them be renewed first"
        ));
    }
    Ok(format!("until {until}, {} days", left / 86_400))
}
