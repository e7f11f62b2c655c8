use std::fmt;

/// How a file is written, chosen by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Yaml,
    Json,
    Toml,
    /// Lines `NAME=value`, with or without `export`.
    Env,
    /// What pip reads: lines `name==version`.
    Requirements,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::Yaml => "YAML",
            Format::Json => "JSON",
            Format::Toml => "TOML",
            Format::Env => "an env file",
            Format::Requirements => "a requirements file",
        })
    }
}

impl Format {
    /// The format of a file of this name; `None` when piton knows none.
    pub fn of(file: &str) -> Option<Format> {
        let name = file.rsplit('/').next().unwrap_or(file).to_ascii_lowercase();
        let parent = file.rsplit('/').nth(1).unwrap_or_default();
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name.as_str(), ""));
        match extension {
            "yaml" | "yml" => Some(Format::Yaml),
            "json" => Some(Format::Json),
            "toml" => Some(Format::Toml),
            "env" => Some(Format::Env),
            _ if name.starts_with(".env.") => Some(Format::Env),
            "txt" | "in" if stem.contains("requirements") || stem.contains("constraints") => Some(Format::Requirements),
            "txt" | "in" if parent == "requirements" => Some(Format::Requirements),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_chosen_by_name() {
        let table = [
            ("mybinder/values.yaml", Some(Format::Yaml)),
            ("a/b/Chart.YML", Some(Format::Yaml)),
            ("package.json", Some(Format::Json)),
            ("pyproject.toml", Some(Format::Toml)),
            ("cert-manager.env", Some(Format::Env)),
            ("deploy/.env", Some(Format::Env)),
            (".env.production", Some(Format::Env)),
            ("images/hub/requirements.txt", Some(Format::Requirements)),
            ("dev-requirements.txt", Some(Format::Requirements)),
            ("requirements-dev.in", Some(Format::Requirements)),
            ("requirements/base.txt", Some(Format::Requirements)),
            ("constraints.txt", Some(Format::Requirements)),
            ("notes.txt", None),
            ("Dockerfile", None),
            ("Pipfile", None),
            ("main.tf", None),
            ("yaml", None),
            ("", None),
        ];
        for (name, format) in table {
            assert_eq!(Format::of(name), format, "{name}");
        }
    }
}
