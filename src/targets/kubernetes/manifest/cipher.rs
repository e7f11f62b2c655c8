//! Encrypted files: they are found by what they begin with or by what their tool leaves in them, and never read further.

use serde_json::Value;

/// How a file of these bytes is encrypted; `None`: it is not, as far as can be seen.
pub fn of_bytes(bytes: &[u8]) -> Option<&'static str> {
    let beginnings: [(&[u8], &str); 5] = [
        (b"\0GITCRYPT\0", "git-crypt"),
        (b"-----BEGIN AGE ENCRYPTED FILE-----", "age"),
        (b"age-encryption.org/", "age"),
        (b"-----BEGIN PGP MESSAGE-----", "PGP"),
        (b"$ANSIBLE_VAULT;", "ansible-vault"),
    ];
    let start = bytes.trim_ascii_start();
    let found = |beginning: &[u8]| bytes.starts_with(beginning) || start.starts_with(beginning);
    beginnings.iter().find(|(beginning, _)| found(beginning)).map(|(_, how)| *how)
}

/// Whether a document is one that sops wrote: it keeps its own record beside the encrypted values.
pub fn of_document(document: &Value) -> Option<&'static str> {
    let record = document.get("sops")?;
    let is_a_record =
        record.get("mac").is_some() || record.get("version").is_some() || record.get("lastmodified").is_some();
    is_a_record.then_some("sops")
}
