//! The configuration: shown, and changed while the broker runs. What a change means is for the settings' source to say;
//! here it is kept in the file that the broker was started with, and then put in force on every executor.

use std::path::Path;
use std::rc::Rc;

use ringmq_rt::{fs, wall_ms};

use super::Good;
use crate::control::Changes;
use crate::control_shard::ControlShard;
use crate::mail::Ask;
use crate::refusal::Refusal;
use crate::settings::{CHANGES_MAX, Current, Settings, Source};

/// A configuration file is read up to here; the loader's own bound is below.
const FILE_MAX: u64 = 16 << 20;

/// GET_BROKER_CONFIG.
pub(super) fn show(control: &ControlShard) -> Good {
    let version = control.tables.borrow().topics.version().to_vec();
    let version = String::from_utf8_lossy(&version).into_owned();
    Good { ext: vec![("version".into(), version)], body: control.node.settings.properties.clone().into_bytes() }
}

/// UPDATE_BROKER_CONFIG: first the file, whose failure leaves everything as it was, then every executor, which cannot fail.
///
/// # Errors
/// Why nothing is changed; or, in words, what of the change is not on disk.
pub async fn change(control: &Rc<ControlShard>, change: &[u8]) -> Result<(), Refusal> {
    let number = control.config_changes.get();
    if number >= CHANGES_MAX {
        let remark =
            format!("the configuration was changed {CHANGES_MAX} times; restart the broker to change it again");
        return Err(Refusal::failed(remark));
    }
    let Some(_turn) = Turn::take(control) else {
        return Err(Refusal::failed("the configuration is being changed by another request; ask again"));
    };
    let now = control.node.settings.get();
    let Some(source) = &now.source else {
        return Err(Refusal::failed("the configuration of this broker cannot be changed while it runs"));
    };
    let settings = source.change(now, change).map_err(Refusal::failed)?;
    if settings.properties == now.properties {
        return Ok(());
    }
    keep(&**source, change).await.map_err(Refusal::failed)?;
    control.config_changes.set(number + 1);
    let settings = Current::keep(settings);
    let topics = control.tables.borrow_mut().configure(settings, wall_ms());
    put_in_force(control, settings).await;
    if now.topics.permission != settings.topics.permission
        && let Some(announcer) = control.announcer()
    {
        announcer.registered().await;
    }
    tracing::info!(change = %String::from_utf8_lossy(change).trim(), "the configuration was changed");
    let applied = control.apply_durably(Changes { topics, ..Changes::default() }).await;
    applied.map_err(|why| {
        Refusal::failed(format!(
            "the configuration is changed, in its file and in the running broker, but the topic table is not on disk: {why}"
        ))
    })
}

/// Puts settings in force on every executor. Where a mailbox is full the post waits for room; it is never refused.
async fn put_in_force(control: &ControlShard, settings: &'static Settings) {
    for shard in 0..control.node.post.shards() {
        if let Err(refusal) = control.node.ask(shard, Ask::Configure(settings)).await.done() {
            tracing::error!(shard, %refusal, "an executor did not say that it goes by the changed configuration");
        }
    }
}

/// Writes the change into the file. After an error the file is as it was, or the error says that it may not be.
async fn keep(source: &dyn Source, change: &[u8]) -> Result<(), String> {
    let Some(file) = source.file() else {
        tracing::warn!("the broker was started without a configuration file: the change is lost when it ends");
        return Ok(());
    };
    let failed = |error: std::io::Error| {
        format!("nothing is changed, because the configuration file {} cannot be changed: {error}", file.display())
    };
    let content = fs::read(file, FILE_MAX).await.map_err(failed)?.unwrap_or_default();
    let edited = source.edit(&content, change)?;
    if edited == content {
        return Ok(());
    }
    let Err(error) = fs::replace(file, edited.clone(), true).await else { return Ok(()) };
    // The new text has its place before the directory is flushed: the next start must not read what was refused.
    match undo(file, content, &edited).await {
        Ok(()) => Err(failed(error)),
        Err(again) => Err(format!(
            "the running broker is not changed: {error}; but its configuration file {} may be: {again}; look at the file \
             before the next start",
            file.display()
        )),
    }
}

/// Puts the old content back if the new one is in its place.
async fn undo(file: &Path, content: Vec<u8>, edited: &[u8]) -> std::io::Result<()> {
    match fs::read(file, FILE_MAX).await? {
        Some(found) if found == edited => fs::replace(file, content, true).await,
        _ => Ok(()),
    }
}

/// The right to change the configuration, for one request at a time: between reading the file and writing it others are
/// served.
struct Turn<'a>(&'a ControlShard);

impl<'a> Turn<'a> {
    fn take(control: &'a ControlShard) -> Option<Self> {
        (!control.config_changing.replace(true)).then_some(Self(control))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.config_changing.set(false);
    }
}
