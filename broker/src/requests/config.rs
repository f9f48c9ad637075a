//! The configuration: shown, and changed while the broker runs. What a change means is for the settings' source to say;
//! here it is kept in the file that the broker was started with, and then put in force on every executor.

use std::rc::Rc;

use ringmq_rt::{fs, wall_ms};

use super::{Good, Outcome, ask_all, carry_out};
use crate::control::Changes;
use crate::control_shard::ControlShard;
use crate::mail::Ask;
use crate::refusal::Refusal;
use crate::settings::{CHANGES_MAX, Current, Source};

/// A configuration file is read up to here; the loader's own bound is below.
const FILE_MAX: u64 = 16 << 20;

/// GET_BROKER_CONFIG.
pub(super) fn show(control: &ControlShard) -> Good {
    let version = control.tables.borrow().topics.version().to_vec();
    let version = String::from_utf8_lossy(&version).into_owned();
    Good { ext: vec![("version".into(), version)], body: control.node.settings.properties.clone().into_bytes() }
}

/// UPDATE_BROKER_CONFIG.
pub(super) async fn change(control: &Rc<ControlShard>, change: &[u8]) -> Outcome {
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
        return Ok(Good::default());
    }
    keep(&**source, change).await.map_err(Refusal::failed)?;
    control.config_changes.set(number + 1);
    let settings = Current::keep(settings);
    let changes = control.tables.borrow_mut().configure(settings, wall_ms());
    ask_all(control, || Ask::Configure(settings)).await?;
    if now.topics.permission != settings.topics.permission
        && let Some(announcer) = control.announcer()
    {
        announcer.registered().await;
    }
    tracing::info!(change = %String::from_utf8_lossy(change).trim(), "the configuration was changed");
    carry_out(control, Changes { topics: changes, ..Changes::default() }).await
}

/// Writes the change into the file.
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
    if edited != content {
        fs::replace(file, edited, true).await.map_err(failed)?;
    }
    Ok(())
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
