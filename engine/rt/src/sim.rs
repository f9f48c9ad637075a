//! The deterministic world.
pub fn is_active() -> bool {
    false
}
pub(crate) fn spawn(_: std::pin::Pin<Box<dyn std::future::Future<Output = ()>>>) {}
pub(crate) fn now() -> crate::time::Instant {
    crate::time::Instant(0)
}
pub(crate) fn wall_ms() -> i64 {
    0
}
pub(crate) async fn sleep_until(_: crate::time::Instant) {}
#[derive(Debug)]
pub(crate) enum File {}
use crate::buf::*;
use std::io;
use std::path::Path;
impl File {
    pub(crate) async fn open(_: &Path, _: bool) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(crate) async fn len(&self) -> io::Result<u64> {
        match *self {}
    }
    pub(crate) async fn allocate(&self, _: u64) -> io::Result<()> {
        match *self {}
    }
    pub(crate) async fn read_at(&self, _: AlignedBuf, _: u64) -> io::Result<(AlignedBuf, usize)> {
        match *self {}
    }
    pub(crate) async fn write_at(&self, _: &[Slice], _: u64) -> io::Result<()> {
        match *self {}
    }
    pub(crate) async fn commit(&self, _: &[Slice], _: u64) -> io::Result<()> {
        match *self {}
    }
    pub(crate) async fn sync(&self) -> io::Result<()> {
        match *self {}
    }
}
pub(crate) mod fs {
    use std::io;
    use std::path::{Path, PathBuf};
    #[derive(Debug)]
    pub(crate) struct DirLock;
    fn no() -> io::Error {
        io::ErrorKind::Unsupported.into()
    }
    pub(crate) async fn create_dir_all(_: &Path) -> io::Result<()> {
        Err(no())
    }
    pub(crate) async fn read_dir(_: &Path) -> io::Result<Vec<PathBuf>> {
        Err(no())
    }
    pub(crate) async fn read(_: &Path, _: u64) -> io::Result<Option<Vec<u8>>> {
        Err(no())
    }
    pub(crate) async fn replace(_: &Path, _: Vec<u8>, _: bool) -> io::Result<()> {
        Err(no())
    }
    pub(crate) async fn remove(_: &Path) -> io::Result<()> {
        Err(no())
    }
    pub(crate) async fn sync_dir(_: &Path) -> io::Result<()> {
        Err(no())
    }
    pub(crate) async fn space(_: &Path) -> io::Result<crate::fs::Space> {
        Err(no())
    }
    pub(crate) async fn commit_method(_: &Path) -> crate::CommitMethod {
        crate::CommitMethod::Thread
    }
    pub(crate) async fn lock_dir(_: &Path) -> io::Result<Result<DirLock, String>> {
        Err(no())
    }
}
pub(crate) mod net {
    use crate::buf::Slice;
    use crate::net::*;
    use std::io;
    use std::net::SocketAddr;
    #[derive(Debug)]
    pub(crate) enum Listener {}
    #[derive(Debug)]
    pub(crate) enum Stream {}
    impl Listener {
        pub(crate) fn bind(_: SocketAddr, _: ListenOptions) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }
        pub(crate) fn local_addr(&self) -> SocketAddr {
            match *self {}
        }
        pub(crate) async fn accept(&self) -> io::Result<Stream> {
            match *self {}
        }
    }
    impl Stream {
        pub(crate) async fn connect(_: SocketAddr, _: std::time::Duration) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }
        pub(crate) fn peer_addr(&self) -> SocketAddr {
            match *self {}
        }
        pub(crate) fn local_addr(&self) -> SocketAddr {
            match *self {}
        }
        pub(crate) async fn recv(&self) -> io::Result<Option<Slice>> {
            match *self {}
        }
        pub(crate) fn try_recv(&self) -> Option<Slice> {
            match *self {}
        }
        pub(crate) async fn send(&self, _: Outbox) -> (io::Result<()>, Outbox) {
            match *self {}
        }
        pub(crate) fn shutdown(&self) {
            match *self {}
        }
    }
}
