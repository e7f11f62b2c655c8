use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::{
    Why,
    flat::{Quote, Slot},
};

/// The requirements of a file that pip reads, one slot per logical line that names a package.
pub(super) fn slots(text: &str) -> Vec<Slot> {
    let mut slots = Vec::new();
    let mut at = 0;
    let mut line = 1;
    while at < text.len() {
        let end = logical_end(text, at);
        let content = &text[at..end];
        if let Some((name, value)) = requirement(content, line) {
            let value = value.map(|range| at + range.start..at + range.end);
            slots.push(Slot { name, line, value, quote: Quote::None });
        }
        line += content.matches('\n').count() + 1;
        at = end + 1;
    }
    slots
}

/// A backslash at its end carries a line on to the next.
fn logical_end(text: &str, from: usize) -> usize {
    let mut at = from;
    loop {
        let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
        let goes_on = text[at..end].trim_end_matches('\r').ends_with('\\');
        if !goes_on || end == text.len() {
            return end;
        }
        at = end + 1;
    }
}

fn requirement(content: &str, line: usize) -> Option<(String, Result<Range<usize>, Why>)> {
    static NAMED: LazyLock<Regex> =
        LazyLock::new(|| regex(r"^[ \t]*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)[ \t]*(?:\[[^\]]*\])?[ \t]*(.*)"));
    static URL: LazyLock<Regex> =
        LazyLock::new(|| regex(r"^[ \t]*(?:-e[ \t]+|--editable[ =])?((?:git|hg|svn|bzr)\+\S+)"));
    let body_length = content.find(" #").unwrap_or(content.len());
    let body = if content.trim_start().starts_with('#') { "" } else { &content[..body_length] };
    if let Some(url) = URL.captures(body).and_then(|found| found.get(1)) {
        let name = name_of_url(url.as_str())?;
        return Some((name, reference(url.as_str(), url.start(), line)));
    }
    let named = NAMED.captures(body)?;
    let (name, rest) = (named.get(1)?.as_str().to_owned(), named.get(2)?);
    if body.contains("--hash") {
        return Some((name, Err(Why::HashPinned { line })));
    }
    let value = match rest.as_str().strip_prefix('@') {
        Some(url) => reference(url, rest.start() + 1, line),
        None => pinned(rest.as_str(), line).map(|range| rest.start() + range.start..rest.start() + range.end),
    };
    Some((name, value))
}

/// The one version after `==`.
fn pinned(specifier: &str, line: usize) -> Result<Range<usize>, Why> {
    static PIN: LazyLock<Regex> =
        LazyLock::new(|| regex(r"^(?:===?)[ \t]*([A-Za-z0-9.!+*_-]+)[ \t\r]*(?:;.*|--.*|\\\r?)?$"));
    let found = PIN.captures(specifier).and_then(|found| found.get(1));
    found.map(|version| version.range()).ok_or_else(|| Why::NotPinned { line, text: specifier.trim().to_owned() })
}

/// What stands after the `@` of `git+https://host/repo@reference#egg=name`.
fn reference(url: &str, start: usize, line: usize) -> Result<Range<usize>, Why> {
    let marker = url.find(" ;").unwrap_or(url.len());
    let end = url[..marker].find('#').unwrap_or(url[..marker].trim_end().len());
    let repository = url[..end].rfind('/').unwrap_or(0);
    // A branch name may hold a slash, so the first `@` of the path counts, which comes after that of the user's name.
    let host = url.find("://").map_or(0, |at| at + 3);
    let path = url.get(host..end).and_then(|rest| rest.find('/')).map_or(repository, |at| host + at);
    match url.get(path..end).and_then(|path| path.find('@')) {
        Some(at) if path + at + 1 < end => Ok(start + path + at + 1..start + end),
        _ => Err(Why::NotPinned { line, text: url.trim().to_owned() }),
    }
}

fn name_of_url(url: &str) -> Option<String> {
    if let Some((_, egg)) = url.split_once("#egg=") {
        return Some(egg.split(['&', '[']).next().unwrap_or(egg).to_owned());
    }
    let host = url.find("://")? + 3;
    let path = url[host..].split(['@', '#']).find(|piece| piece.contains('/'))?;
    let last = path.trim_end_matches('/').rsplit('/').next()?;
    Some(last.strip_suffix(".git").unwrap_or(last).to_owned()).filter(|name| !name.is_empty())
}

/// The name as pip compares it: case, `-`, `_` and `.` make no difference.
pub(super) fn normal(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if out.ends_with('-') => (),
            '-' | '_' | '.' => out.push('-'),
            c => out.extend(c.to_lowercase()),
        }
    }
    out
}

/// The version as it stands in the file; `before` is the text up to it.
pub(super) fn token(before: &str, to: &str) -> Result<String, Why> {
    let is_url = before.ends_with('@');
    let fits =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '!' | '+' | '*' | '_' | '-') || (is_url && c == '/');
    match to.chars().all(fits) {
        true => Ok(to.to_owned()),
        false => Err(Why::CannotHold { to: to.to_owned(), problem: "pip would not read it as one version" }),
    }
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant that tests use")
}

#[cfg(test)]
mod tests {
    use crate::edit::tests::{changes, reads, refuses};

    #[test]
    fn every_other_byte_stays() {
        for (text, name, to, wanted) in [
            ("jupyterhub==5.5.0\n", "jupyterhub", "5.5.1", "jupyterhub==5.5.1\n"),
            (
                "a==1\njupyterhub-kubespawner==7.1.0 # 7.1.0\n",
                "jupyterhub_kubespawner",
                "7.1.1",
                "a==1\njupyterhub-kubespawner==7.1.1 # 7.1.0\n",
            ),
            ("Jupyter.Hub == 1.0", "jupyter-hub", "1.1", "Jupyter.Hub == 1.1"),
            ("a[x,y]==1.0 ; python_version < '3.9'\n", "a", "1.1", "a[x,y]==1.1 ; python_version < '3.9'\n"),
            ("a==1.0;python_version=='3.9'\n", "a", "1.1", "a==1.1;python_version=='3.9'\n"),
            ("a===1.0\n", "a", "2!1.1+local", "a===2!1.1+local\n"),
            ("a==1\r\nb==1\r\n", "b", "2", "a==1\r\nb==2\r\n"),
            ("# a==0\na==1\nab==1\n", "a", "2", "# a==0\na==2\nab==1\n"),
            ("a==1 \\\n  ; x\nb==1\n", "b", "2", "a==1 \\\n  ; x\nb==2\n"),
            (
                "git+https://github.com/jupyterhub/binderhub@3983abc\n",
                "binderhub",
                "4000def",
                "git+https://github.com/jupyterhub/binderhub@4000def\n",
            ),
            ("-e git+https://u@h/x/y.git@main#egg=why\n", "why", "v1", "-e git+https://u@h/x/y.git@v1#egg=why\n"),
            ("y @ git+ssh://git@h/x/y.git@abc\n", "y", "def", "y @ git+ssh://git@h/x/y.git@def\n"),
            ("--extra-index-url https://x/a==1\na==1\n", "a", "2", "--extra-index-url https://x/a==1\na==2\n"),
        ] {
            changes("requirements.txt", text, name, to, wanted);
        }
    }

    #[test]
    fn what_is_not_safe_is_refused() {
        for (text, name, to, reason) in [
            ("a==1 \\\n    --hash=sha256:ab\n", "a", "2", "line 1 pins its files by hash"),
            ("x==1\na==1 --hash=sha256:ab\n", "a", "2", "line 2 pins its files by hash"),
            ("a>=1\n", "a", "2", "line 1 does not pin one version with `==`: `>=1`"),
            ("a==1,<2\n", "a", "2", "does not pin"),
            ("a\n", "a", "2", "does not pin"),
            ("a @ https://x/y.whl\n", "a", "2", "does not pin"),
            ("a @ #git+https://x/y@1\n", "a", "2", "does not pin"),
            ("a==1; x\na==2; y\n", "a", "3", "several times, on the lines 1 and 2"),
            ("jupyterhub==1\n", "jupyterhbu", "2", "the nearest is `jupyterhub`"),
            ("a==1\n", "a", "2 # x", "pip would not read it"),
        ] {
            refuses("requirements.txt", text, name, to, reason);
        }
    }

    #[test]
    fn absent_is_none() {
        reads("requirements.txt", "a==1\n", "b", None);
        reads("requirements.txt", "a==1.10 # x\n", "A", Some("1.10"));
    }
}
