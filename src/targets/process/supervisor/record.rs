//! What the supervisor writes down, so that the next one takes over where it was killed.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::unit::UnitRecord;
use crate::{
    model::TreeId,
    targets::{checkouts::replace_file, process::wire::Brought},
};

/// The form of the file; another one is refused.
const SCHEMA: u32 = 1;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Record {
    pub schema: u32,
    /// Chance, once for the folder: the first part of the marks of all processes that come from it.
    pub id: String,
    /// The highest number that any order carried.
    pub fence: u64,
    pub ports: Ports,
    pub arms: Arms,
    /// Ended on purpose: nobody starts it again just to look.
    pub ended: bool,
    pub releases: Vec<Brought>,
    /// By key.
    pub units: BTreeMap<String, UnitRecord>,
}

/// The environment's own ports; 0 where none was chosen yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    pub users: u16,
    pub candidate: u16,
    pub stable: u16,
    pub metrics: u16,
    pub listen: Option<std::net::IpAddr>,
}

/// Which release is where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arms {
    pub stable: Option<TreeId>,
    pub candidate: Option<TreeId>,
    /// The candidate's, in hundredths of a percent.
    pub share: u16,
    /// The release that was applied last and not taken back.
    pub trial: Option<TreeId>,
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not a supervisor's record: {why}")]
    Form { path: PathBuf, why: String },
}

/// Where the record is.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("supervisor.json")
}

/// The record, or `None` before the first.
pub fn read(state_dir: &Path) -> Result<Option<Record>, RecordError> {
    let path = path(state_dir);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RecordError::Read { path, source }),
    };
    let record: Record = match serde_json::from_slice(&text) {
        Ok(record) => record,
        Err(error) => return Err(RecordError::Form { path, why: error.to_string() }),
    };
    if record.schema != SCHEMA {
        return Err(RecordError::Form { path, why: format!("schema {} is not {SCHEMA}", record.schema) });
    }
    Ok(Some(record))
}

/// Replaces the record as a whole.
pub fn write(state_dir: &Path, record: &Record) -> io::Result<()> {
    let record = Record { schema: SCHEMA, ..record.clone() };
    let text = serde_json::to_vec(&record).map_err(io::Error::other)?;
    replace_file(&path(state_dir), &text)
}
