//! Where the values of secret variables come from: our environment, or files that are read anew each time, so that a
//! secret that was changed counts at once.

use std::path::PathBuf;

/// Names a folder with a file per variable, as Kubernetes mounts a Secret.
pub const DIRECTORY: &str = "PITON_SECRETS_DIR";
/// `NAME_FILE` names the file that holds the value of `NAME`.
const FILE_SUFFIX: &str = "_FILE";
/// Nobody's secret is longer; what is longer is the wrong file.
const BYTES_MAX: u64 = 1024 * 1024;

/// Why a secret variable has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("the environment variable `{0}` is not set, and there is no file for it")]
    Missing(String),
    #[error("cannot read the file {path} with the value of `{name}`: {why}")]
    Unread { name: String, path: String, why: String },
}

/// The value of a secret variable: `NAME` itself, else the file that `NAME_FILE` names, else the file `NAME` in the
/// folder PITON_SECRETS_DIR. One line end at the end of a file does not belong to the value.
pub fn value(name: &str) -> Result<String, SecretError> {
    if let Ok(value) = std::env::var(name) {
        return Ok(value);
    }
    let path = file_of(name).ok_or_else(|| SecretError::Missing(name.to_owned()))?;
    let unread = |why: String| SecretError::Unread { name: name.to_owned(), path: path.display().to_string(), why };
    let size = std::fs::metadata(&path).map_err(|e| unread(e.to_string()))?.len();
    if size > BYTES_MAX {
        return Err(unread(format!("it has {size} bytes, more than any secret")));
    }
    let text = std::fs::read_to_string(&path).map_err(|e| unread(e.to_string()))?;
    Ok(text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text)).to_owned())
}

/// The file that holds the value of a variable, if one is named or there.
pub fn file_of(name: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(format!("{name}{FILE_SUFFIX}")).filter(|path| !path.is_empty()) {
        return Some(PathBuf::from(path));
    }
    let file = PathBuf::from(std::env::var_os(DIRECTORY).filter(|dir| !dir.is_empty())?).join(name);
    file.is_file().then_some(file)
}
