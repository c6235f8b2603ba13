//! The units port: systemd, logind and hostnamed over D-Bus.

use std::convert::Infallible;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures::StreamExt;
use node::ports::{UnitState, Units};
use node::{ErrorKind, PortError, PortResult};
use zbus::OwnedObjectPath;
use zbus::message::Type::Signal;
use zbus::{MatchRule, MessageStream};

use crate::bus::{self, Bus, Object, call_on_bus, on_bus};
use crate::command::Command;
use crate::failure::Attempt;

pub(crate) const SYSTEMD: Object<'_> = Object {
    service: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
};
pub(crate) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const LOGIND: Object<'_> = Object {
    service: "org.freedesktop.login1",
    path: "/org/freedesktop/login1",
};
const HOSTNAMED: Object<'_> = Object {
    service: "org.freedesktop.hostname1",
    path: "/org/freedesktop/hostname1",
};

/// How long a unit may take to stop or to start anew: more than any unit's own time-outs, which end it earlier.
const JOB_DEADLINE: Duration = Duration::from_secs(600);

/// How long a machine may take to go down (architecture, section 5; the trait's promise).
const REBOOT_DEADLINE: Duration = Duration::from_secs(600);

/// How long what is not on the disk yet may take to get there before a reboot.
const SYNC_DEADLINE: Duration = Duration::from_secs(60);

/// How long systemctl may take to ask.
const SYSTEMCTL_DEADLINE: Duration = Duration::from_secs(30);

/// systemd on this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostUnits;

/// One of `ListJobs`: id, unit, type, state, job, unit's object.
type Job = (
    u32,
    String,
    String,
    String,
    OwnedObjectPath,
    OwnedObjectPath,
);

impl HostUnits {
    /// Queues a job of the unit and waits until it is gone.
    fn finish_job(self, verb: &str, method: &str, unit: &str) -> PortResult<()> {
        let attempted = format!("{verb} {unit}");
        let result = on_bus(&attempted, JOB_DEADLINE, async |bus| {
            // Only those who ask hear of jobs.
            let () = bus.call(SYSTEMD, MANAGER, "Subscribe", &()).await?;
            let rule = MatchRule::builder()
                .msg_type(Signal)
                .sender(SYSTEMD.service)
                .interface(MANAGER)
                .member("JobRemoved")
                .build()?;
            let mut removals = MessageStream::for_match_rule(rule, &bus.0, None).await?;
            let job: OwnedObjectPath = bus
                .call(SYSTEMD, MANAGER, method, &(unit, "replace"))
                .await?;
            while let Some(removal) = removals.next().await {
                let removal = removal?;
                let (_, path, _, result): (u32, OwnedObjectPath, String, String) =
                    removal.body().deserialize()?;
                if path == job {
                    return Ok(result);
                }
            }
            Err(zbus::Error::InputOutput(std::sync::Arc::new(
                io::ErrorKind::BrokenPipe.into(),
            )))
        })?;
        // "skipped": there was nothing to do.
        let kind = match result.as_str() {
            "done" | "skipped" => return Ok(()),
            "canceled" | "timeout" => ErrorKind::Transient,
            _ => ErrorKind::Permanent,
        };
        Err(PortError::plain(
            kind,
            format!("{attempted} ended with \"{result}\""),
        ))
    }

    fn change_unit_file<A>(self, attempted: &str, method: &str, arguments: &A) -> PortResult<()>
    where
        A: serde::Serialize + zbus::zvariant::DynamicType,
    {
        call_on_bus(attempted, async |bus: Bus| {
            let object = SYSTEMD;
            let reply = bus
                .0
                .call_method(
                    Some(object.service),
                    object.path,
                    Some(MANAGER),
                    method,
                    arguments,
                )
                .await?;
            // What the reply tells of changed links is of no use.
            drop(reply);
            let () = bus.call(SYSTEMD, MANAGER, "Reload", &()).await?;
            Ok(())
        })?;
        settle_etc()
    }
}

/// Makes what others wrote below `/etc` durable.
pub(crate) fn settle_etc() -> PortResult<()> {
    let open = || -> io::Result<()> { Ok(rustix::fs::syncfs(std::fs::File::open("/etc")?)?) };
    open().attempt(|| "syncing the filesystem of /etc".to_owned())
}

fn state_of(load: &str, active: &str) -> UnitState {
    match (load, active) {
        ("not-found", "inactive") => UnitState::Absent,
        // Also what waits to be restarted: its sub-state is "auto-restart".
        (_, "activating") => UnitState::Starting,
        (_, "active" | "reloading" | "refreshing") => UnitState::Active,
        (_, "deactivating") => UnitState::Stopping,
        (_, "failed") => UnitState::Failed,
        _ => UnitState::Inactive,
    }
}

impl Units for HostUnits {
    fn state(&self, unit: &str) -> PortResult<UnitState> {
        call_on_bus(&format!("examining {unit}"), async |bus: Bus| {
            const UNIT: &str = "org.freedesktop.systemd1.Unit";
            let path: OwnedObjectPath = bus.call(SYSTEMD, MANAGER, "LoadUnit", &(unit,)).await?;
            let object = Object {
                service: SYSTEMD.service,
                path: path.as_str(),
            };
            let load: String = bus.property(object, UNIT, "LoadState").await?;
            let active: String = bus.property(object, UNIT, "ActiveState").await?;
            Ok(state_of(&load, &active))
        })
    }

    fn enabled(&self, unit: &str) -> PortResult<bool> {
        call_on_bus(&format!("examining {unit}"), async |bus: Bus| {
            match bus
                .call::<_, String>(SYSTEMD, MANAGER, "GetUnitFileState", &(unit,))
                .await
            {
                Ok(state) => Ok(state == "enabled"),
                Err(error) => match bus::name(&error).as_str() {
                    // There is no such file.
                    "org.freedesktop.DBus.Error.FileNotFound"
                    | "org.freedesktop.systemd1.NoSuchUnit" => Ok(false),
                    _ => Err(error),
                },
            }
        })
    }

    fn enable(&self, unit: &str) -> PortResult<()> {
        let arguments = (
            vec![unit],
            /* only until the reboot */ false,
            /* force */ true,
        );
        self.change_unit_file(&format!("enabling {unit}"), "EnableUnitFiles", &arguments)
    }

    fn disable(&self, unit: &str) -> PortResult<()> {
        let arguments = (vec![unit], /* only until the reboot */ false);
        self.change_unit_file(&format!("disabling {unit}"), "DisableUnitFiles", &arguments)
    }

    fn reread(&self) -> PortResult<()> {
        call_on_bus("letting systemd read its units anew", async |bus: Bus| {
            bus.call::<_, ()>(SYSTEMD, MANAGER, "Reload", &()).await
        })
    }

    fn start(&self, unit: &str) -> PortResult<()> {
        call_on_bus(&format!("starting {unit}"), async |bus: Bus| {
            let arguments = (unit, "replace");
            let _job: OwnedObjectPath = bus.call(SYSTEMD, MANAGER, "StartUnit", &arguments).await?;
            Ok(())
        })
    }

    fn restart(&self, unit: &str) -> PortResult<()> {
        self.finish_job("restarting", "RestartUnit", unit)
    }

    fn reload(&self, unit: &str) -> PortResult<()> {
        self.finish_job("reloading", "ReloadUnit", unit)
    }

    fn stop(&self, unit: &str) -> PortResult<()> {
        if self.state(unit)? == UnitState::Absent {
            return Ok(());
        }
        self.finish_job("stopping", "StopUnit", unit)
    }

    fn notify_ready(&self, status: &str) -> PortResult<()> {
        let Some(address) = env::var_os("NOTIFY_SOCKET") else {
            return Ok(());
        };
        let status: String = status.chars().filter(|c| !c.is_control()).collect();
        notify(&address, &format!("READY=1\nSTATUS={status}\n"))
            .attempt(|| "telling the service manager that the unit is ready".to_owned())
    }

    fn hostname(&self) -> PortResult<String> {
        call_on_bus("reading the static hostname", async |bus: Bus| {
            bus.property(HOSTNAMED, HOSTNAMED.service, "StaticHostname")
                .await
        })
    }

    fn set_hostname(&self, hostname: &str) -> PortResult<()> {
        call_on_bus(
            &format!("setting the static hostname to {hostname}"),
            async |bus: Bus| {
                let arguments = (hostname, /* interactive */ false);
                let interface = HOSTNAMED.service;
                bus.call::<_, ()>(HOSTNAMED, interface, "SetStaticHostname", &arguments)
                    .await
            },
        )?;
        settle_etc()
    }

    fn going_down(&self) -> PortResult<bool> {
        call_on_bus(
            "asking systemd whether the machine goes down",
            async |bus: Bus| {
                let state: String = bus.property(SYSTEMD, MANAGER, "SystemState").await?;
                if state == "stopping" {
                    return Ok(true);
                }
                let jobs: Vec<Job> = bus.call(SYSTEMD, MANAGER, "ListJobs", &()).await?;
                let down = [
                    "shutdown.target",
                    "reboot.target",
                    "poweroff.target",
                    "halt.target",
                ];
                Ok(jobs
                    .iter()
                    .any(|(_, unit, kind, ..)| kind == "start" && down.contains(&&**unit)))
            },
        )
    }

    fn reboot(&self, reason: &str) -> PortResult<Infallible> {
        tracing::warn!(reason, "rebooting the machine");
        sync_for_a_while();
        ask_in_turn(&[
            ("logind", &ask_logind),
            // Small systems have no logind; systemd itself does the same without asking anybody.
            ("systemd", &ask_systemd),
            // Without a system bus: over systemd's own socket.
            ("systemctl", &|| systemctl(&["reboot"])),
            // What runs is killed and not stopped. No plan is told apart here: what any of them needs is durable before it asks, and
            // a node that stays between its releases is worse.
            ("systemctl --force", &|| match self.going_down() {
                // Somebody else's order to go down bars ours, and is as good.
                Ok(true) => Ok(()),
                _ => systemctl(&["--force", "reboot"]),
            }),
            // A systemd that has crashed answers nobody: the kernel is asked.
            ("the kernel", &|| {
                systemctl(&["--force", "--force", "reboot"])
            }),
        ])?;
        thread::sleep(REBOOT_DEADLINE);
        let minutes = REBOOT_DEADLINE.as_secs() / 60;
        let text = format!("the machine is still up {minutes} minutes after it was told to reboot");
        Err(PortError::plain(ErrorKind::Transient, text))
    }
}

/// Everything that is not on the disk yet, for as long as that takes but no longer than [`SYNC_DEADLINE`]: a disk that hangs does
/// not keep the machine up.
fn sync_for_a_while() {
    let (done, waits) = mpsc::channel();
    let thread = thread::Builder::new().spawn(move || {
        rustix::fs::sync();
        done.send(()).ok();
    });
    if thread.is_err() {
        rustix::fs::sync();
    } else if waits.recv_timeout(SYNC_DEADLINE).is_err() {
        tracing::warn!("the disks do not answer in time; rebooting all the same");
    }
}

fn ask_logind() -> PortResult<()> {
    call_on_bus("asking logind for a reboot", async |bus: Bus| {
        let interface = "org.freedesktop.login1.Manager";
        // Told to who is logged in, and in logind's own log. That it cannot be told holds nothing up.
        let why = (api::names::REBOOT_MESSAGE, true);
        if let Err(error) = bus
            .call::<_, ()>(LOGIND, interface, "SetWallMessage", &why)
            .await
        {
            tracing::debug!(%error, "the reboot comes without its reason");
        }
        let interactive = (false,);
        bus.call::<_, ()>(LOGIND, interface, "Reboot", &interactive)
            .await
    })
}

fn ask_systemd() -> PortResult<()> {
    call_on_bus("asking systemd for a reboot", async |bus: Bus| {
        let arguments = ("reboot.target", "replace-irreversibly");
        let _job: OwnedObjectPath = bus.call(SYSTEMD, MANAGER, "StartUnit", &arguments).await?;
        Ok(())
    })
}

fn systemctl(arguments: &[&str]) -> PortResult<()> {
    let command = Command::new("systemctl", SYSTEMCTL_DEADLINE).args(arguments);
    command.run().map(drop).map_err(|error| {
        let text = format!("running systemctl {}", arguments.join(" "));
        PortError::new(ErrorKind::Transient, text, error)
    })
}

/// One way to ask for a reboot, and who is asked.
type Way<'a> = (&'a str, &'a dyn Fn() -> PortResult<()>);

/// Asks one after the other until one takes it; the last one's error.
fn ask_in_turn(ways: &[Way<'_>]) -> PortResult<()> {
    let mut failed = None;
    for (whom, ask) in ways {
        match ask() {
            Ok(()) => return Ok(()),
            Err(error) => {
                let cause = node::error_chain(&error);
                tracing::warn!(whom, cause, "asking for the reboot failed");
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) => Err(PortError::new(
            ErrorKind::Transient,
            "rebooting the machine",
            error,
        )),
        None => Ok(()),
    }
}

/// Sends a state to the service manager (sd_notify(3)); `@` begins the name of an abstract socket.
fn notify(address: &OsStr, state: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => {
            socket.send_to_addr(state.as_bytes(), &SocketAddr::from_abstract_name(name)?)?
        }
        None => socket.send_to(state.as_bytes(), address)?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_follow_systemd() {
        let check = |load, active, state| assert_eq!(state_of(load, active), state);
        check("not-found", "inactive", UnitState::Absent);
        // A unit whose file was removed while it ran.
        check("not-found", "active", UnitState::Active);
        check("loaded", "inactive", UnitState::Inactive);
        check("masked", "inactive", UnitState::Inactive);
        check("loaded", "activating", UnitState::Starting);
        check("loaded", "reloading", UnitState::Active);
        check("loaded", "deactivating", UnitState::Stopping);
        check("loaded", "failed", UnitState::Failed);
    }

    #[test]
    fn a_reboot_is_asked_for_in_every_way_until_one_takes_it() {
        let asked = std::cell::RefCell::new(vec![]);
        let way = |name: &'static str, takes: bool| {
            let asked = &asked;
            move || {
                asked.borrow_mut().push(name);
                let error = || PortError::plain(ErrorKind::Permanent, name);
                takes.then_some(()).ok_or_else(error)
            }
        };
        let (bus, socket, force) = (way("bus", false), way("socket", true), way("force", true));
        ask_in_turn(&[("a", &bus), ("b", &socket), ("c", &force)]).unwrap();
        assert_eq!(asked.take(), ["bus", "socket"]);
        let error = ask_in_turn(&[("a", &bus)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient);
    }

    #[test]
    fn readiness_reaches_both_kinds_of_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let named = UnixDatagram::bind(&path).unwrap();
        let name = format!("lca-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let abstract_socket = UnixDatagram::bind_addr(&address).unwrap();
        let check = |address: &OsStr, socket: &UnixDatagram| {
            notify(address, "READY=1\n").unwrap();
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1\n");
        };
        check(path.as_os_str(), &named);
        check(OsStr::new(&format!("@{name}")), &abstract_socket);
    }
}
