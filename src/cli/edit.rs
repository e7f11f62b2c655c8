use std::{io::Write, path::Path};

use super::{
    answer::{Answer, Failure},
    voice::Voice,
};
use crate::{
    commands::EditArgs,
    edit::{self, At, Part, Place},
    model::Version,
};

/// `piton edit`
pub fn run(args: &EditArgs, dir: Option<&Path>, voice: &Voice) -> Result<Answer, Failure> {
    let file = args.file.display().to_string();
    let path = dir.map_or_else(|| args.file.clone(), |dir| dir.join(&args.file));
    let bytes = std::fs::read(&path).map_err(|e| Failure::world(&format!("cannot read {file}"), &e))?;
    let refused = |e: edit::EditError| Failure { hint: e.hint(), ..Failure::usage(super::answer::words(&e)) };
    let at = match args.pattern {
        true => At::Pattern(args.path.clone()),
        false => At::Path(args.path.parse().map_err(refused)?),
    };
    let part = if args.tag { Part::Tag } else { Part::Whole };
    let place = Place { file: file.clone(), at, part };
    let version = |text: &str| Version::new(text).map_err(|e| Failure::usage(e.to_string()));
    let to = version(&args.value)?;
    let from = args.from.as_deref().map(version).transpose()?;
    let old = edit::read(&bytes, &place).map_err(refused)?;
    let changed = edit::write(&bytes, &place, from.as_ref(), &to).map_err(refused)?;
    if changed != bytes {
        replace(&path, &changed).map_err(|e| Failure::world(&format!("cannot write {file}"), &e))?;
    }
    let old = old.map_or_else(String::new, String::from);
    voice.say(format!("{file}: {} {} → {}", args.path, voice.dim(&old), voice.bold(to.as_str())));
    Ok(Answer::done("edited").with("file", file).with("from", old).with("to", to.as_str()))
}

/// The new content stands there whole, or the old one still does.
fn replace(file: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    let file = std::fs::canonicalize(file)?;
    let folder = file.parent().unwrap_or(std::path::Path::new("."));
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let draft = folder.join(format!(".{name}.{}.piton", std::process::id()));
    let written = write_draft(&draft, &file, bytes).and_then(|()| std::fs::rename(&draft, &file));
    if written.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    written
}

fn write_draft(draft: &std::path::Path, like: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::fs::File::create(draft)?;
    out.write_all(bytes)?;
    out.set_permissions(std::fs::metadata(like)?.permissions())?;
    out.sync_all()
}
