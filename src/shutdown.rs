//! `shutdown`, as `mqshutdown` RocketMQ's: ends this user's servers of a kind and waits until they are gone.

use std::time::Duration;

use ringmq_rt::host;

use crate::cli::{Kind, ShutdownArgs};
use crate::failure::Failure;
use crate::out::line;
use crate::run::{pid, place};

pub(crate) fn run(args: &ShutdownArgs) -> Result<(), Failure> {
    let home = place::home();
    // RocketMQ's words, which scripts look for.
    let name = match args.kind {
        Kind::Broker => "mqbroker",
        Kind::Namesrv => "mqnamesrv",
        Kind::Standalone => "standalone",
    };
    let look =
        |kind| pid::running(&home, kind).map_err(|error| Failure::refused(format!("{}: {error}", home.display())));
    let running = look(args.kind)?;
    if running.is_empty() {
        let standalone = args.kind != Kind::Standalone && !look(Kind::Standalone)?.is_empty();
        let hint = if standalone { "; a standalone runs, end it with `shutdown standalone`" } else { "" };
        return Err(Failure::refused(format!("No {name} running{hint}.")));
    }
    for server in &running {
        let pid = server.pid;
        line(format_args!("The {name}({pid}) is running..."));
        match host::terminate(pid) {
            Ok(()) => line(format_args!("Send shutdown request to {name}({pid}) OK")),
            // It ended in the meantime.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::refused(format!("{name}({pid}) cannot be signalled: {error}"))),
        }
    }
    for server in running {
        let pid = server.pid;
        if !server.wait_gone(Duration::from_secs(args.wait)) {
            return Err(Failure::refused(format!("{name}({pid}) is still stopping after {} s", args.wait)));
        }
        line(format_args!("The {name}({pid}) is gone"));
    }
    Ok(())
}
