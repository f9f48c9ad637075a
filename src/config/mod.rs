//! Configuration: from a `.properties` file, the environment and the command line to typed values, each with its
//! origin.
//!
//! It knows RocketMQ's keys and ours (`table`), how a file is read (`properties`), what a value may be (`value`),
//! which source wins (`load`), and how to say all that to a person (`notice`, `explain`). It opens one file and
//! reads the environment in `load::from_host` and nowhere else; everything else is pure. It does not know the
//! broker or the name server: the program turns `BrokerConfig` and `NamesrvConfig` into what those take.

pub(crate) mod explain;
pub(crate) mod key;
pub(crate) mod load;
pub(crate) mod notice;
pub(crate) mod properties;
pub(crate) mod settings;
mod table;
pub(crate) mod value;
