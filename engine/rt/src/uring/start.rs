//! Opening and closing a shard's world on a thread, and saying precisely what is missing when io_uring is forbidden.

use std::future::Future;
use std::io;
use std::rc::Rc;

use crate::uring::remote::Remote;
use crate::uring::{blocking, driver, net, ring, timer};

/// What one shard needs, set up on the calling thread and torn down on drop.
pub(crate) struct World {
    remote: std::sync::Arc<Remote>,
}

impl World {
    pub(crate) fn open() -> io::Result<Self> {
        let fd = ring::open()?;
        let remote = Remote::new(fd)?;
        ring::pool()?.set_remote(std::sync::Arc::clone(&remote));
        Remote::set_current(Some(std::sync::Arc::clone(&remote)));
        Ok(Self { remote })
    }

    /// Runs `main` with the driver beside it.
    pub(crate) async fn run<T: 'static>(&self, main: impl Future<Output = T> + 'static) -> Option<T> {
        let result = Rc::new(std::cell::Cell::new(None));
        let put = Rc::clone(&result);
        crate::spawn("main", async move {
            put.set(Some(main.await));
            driver::stop();
        })
        .detach();
        driver::drive(std::sync::Arc::clone(&self.remote)).await;
        result.take()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.remote.retire();
        Remote::set_current(None);
        driver::clear();
        net::clear();
        timer::clear();
        blocking::clear();
        ring::close();
    }
}

/// Why io_uring cannot be used here and what to change, in one paragraph.
pub(crate) fn explain(e: &io::Error) -> String {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    advise(e, &disabled)
}

/// The same, for a given content of `kernel.io_uring_disabled` (empty where the kernel has no such setting).
fn advise(e: &io::Error, disabled: &str) -> String {
    let advice = match (e.raw_os_error(), disabled.trim()) {
        (Some(libc::EPERM), "2") => {
            "kernel.io_uring_disabled is 2: io_uring is off for every process. Allow it with `sysctl -w kernel.io_uring_disabled=0`"
        }
        (Some(libc::EPERM), "1") => {
            "kernel.io_uring_disabled is 1: only privileged processes and the group kernel.io_uring_group may use io_uring. \
             Add this user to that group, or `sysctl -w kernel.io_uring_disabled=0`"
        }
        (Some(libc::EPERM | libc::EACCES), _) => {
            "the sysctl allows it, so a seccomp filter forbids it, as container runtimes do by default. Run the container with \
             a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register"
        }
        (Some(libc::ENOSYS), _) => {
            "the kernel has no io_uring, or a seccomp filter hides it (container runtimes do by default). Linux 6.1 or newer is \
             needed, and a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register"
        }
        (Some(libc::ENOMEM), _) => {
            "locked memory is exhausted. Raise the limit: `ulimit -l unlimited`, `LimitMEMLOCK=infinity` in a systemd unit, or \
             `--ulimit memlock=-1` for a container"
        }
        (Some(libc::EINVAL), _) => "the kernel is too old: Linux 6.1 or newer is needed",
        (Some(libc::EMFILE | libc::ENFILE), _) => {
            "file descriptors are exhausted. Raise the limit: `ulimit -n 1048576`"
        }
        _ => "see the error of the operating system",
    };
    format!("io_uring cannot be used here ({e}): {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_obstacle_is_told_with_its_remedy() {
        let cases = [
            (libc::EPERM, "2\n", "kernel.io_uring_disabled is 2"),
            (libc::EPERM, "1\n", "kernel.io_uring_group"),
            (libc::EPERM, "0\n", "seccomp"),
            (libc::ENOSYS, "", "seccomp profile that allows io_uring_setup"),
            (libc::ENOMEM, "0", "LimitMEMLOCK"),
            (libc::EINVAL, "0", "kernel is too old"),
            (libc::EMFILE, "0", "ulimit -n"),
        ];
        for (errno, disabled, expect) in cases {
            let text = advise(&io::Error::from_raw_os_error(errno), disabled);
            assert!(text.starts_with("io_uring cannot be used here") && text.contains(expect), "{errno}: {text}");
        }
    }
}
