//! Asks OCI registries where image references lead: `HEAD` of a manifest, with the token that the registry wants for it.

use std::{fmt, path::PathBuf, str::FromStr};

use reqwest::Method;
use serde_json::Value;

use super::http::{Answer, Ask, HttpError, Secret};
use crate::model::Span;

/// The longest that one question may take.
const ASK_WITHIN: Span = Span::seconds(20);
/// What a manifest may be.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
/// Registries take no larger ones.
const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Where references go that name no registry.
const DEFAULT_REGISTRY: &str = "docker.io";

/// An image or chart in a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    pub registry: String,
    pub repository: String,
    /// A tag; with a digest it says nothing.
    pub tag: String,
    pub digest: Option<String>,
}

/// Where a reference leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Digest(String),
    /// The registry answered: there is no such thing.
    Nothing,
}

/// Why nothing is known of a reference.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("{registry} answers {status} for {what}")]
    Status { registry: String, what: String, status: u16 },
    /// Private, or not there: without the right credentials registries do not tell.
    #[error("{registry} does not let us look at {what} ({status}); log in with `docker login {registry}` or the like")]
    Denied { registry: String, what: String, status: u16 },
    #[error("{registry} asks for a token in a way that is not understood: {challenge}")]
    Challenge { registry: String, challenge: String },
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of an image")]
pub struct ReferenceError(pub String);

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        let wrong = || ReferenceError(text.chars().take(200).collect());
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.to_owned())),
            None => (text, None),
        };
        // A port is no tag: the last colon counts only after the last slash.
        let (name, tag) = match name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some((name, tag)) => (name, tag),
            None => (name, "latest"),
        };
        let is_registry = |first: &str| first.contains(['.', ':']) || first == "localhost";
        let (registry, repository) = match name.split_once('/').filter(|(first, _)| is_registry(first)) {
            Some((registry, repository)) => (registry, repository.to_owned()),
            None if name.contains('/') => (DEFAULT_REGISTRY, name.to_owned()),
            None => (DEFAULT_REGISTRY, format!("library/{name}")),
        };
        let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
        let whole =
            !repository.is_empty() && repository.split('/').all(|p| !p.is_empty()) && repository.chars().all(part);
        let tag_good = !tag.is_empty() && tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let digest_good = digest.as_ref().is_none_or(|d| {
            d.split_once(':').is_some_and(|(_, hex)| hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit()))
        });
        match whole && tag_good && digest_good {
            true => Ok(Reference { registry: registry.to_owned(), repository, tag: tag.to_owned(), digest }),
            false => Err(wrong()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.digest {
            Some(digest) => write!(f, "{}/{}@{digest}", self.registry, self.repository),
            None => write!(f, "{}/{}:{}", self.registry, self.repository, self.tag),
        }
    }
}

impl Reference {
    /// Asks the registry. A reference by digest must be there under exactly this digest.
    pub async fn look_up(&self, logins: &Logins) -> Result<Found, RegistryError> {
        let answer = self.answer(&Method::HEAD, logins).await?;
        match answer.status {
            200 => {
                let digest = answer.headers.get("docker-content-digest").and_then(|digest| digest.to_str().ok());
                let digest = digest.map(str::to_owned).or_else(|| self.digest.clone());
                digest.map(Found::Digest).ok_or_else(|| self.status(answer.status))
            }
            404 => Ok(Found::Nothing),
            status => Err(self.refusal(status)),
        }
    }

    /// The manifest itself; `None`: the registry answered that there is none.
    pub async fn manifest(&self, logins: &Logins) -> Result<Option<Vec<u8>>, RegistryError> {
        let answer = self.answer(&Method::GET, logins).await?;
        match answer.status {
            200 => Ok(Some(answer.body)),
            404 => Ok(None),
            status => Err(self.refusal(status)),
        }
    }

    async fn answer(&self, method: &Method, logins: &Logins) -> Result<Answer, RegistryError> {
        let first = self.ask(method, None).send().await?;
        match (first.status, first.headers.get("www-authenticate").and_then(|h| h.to_str().ok())) {
            (401, Some(challenge)) => {
                let authorization = self.authorization(challenge, logins).await?;
                Ok(self.ask(method, Some(authorization)).send().await?)
            }
            (_, _) => Ok(first),
        }
    }

    fn refusal(&self, status: u16) -> RegistryError {
        match status {
            401 | 403 => RegistryError::Denied { registry: self.registry.clone(), what: self.to_string(), status },
            status => self.status(status),
        }
    }

    fn status(&self, status: u16) -> RegistryError {
        RegistryError::Status { registry: self.registry.clone(), what: self.to_string(), status }
    }

    fn ask(&self, method: &Method, authorization: Option<Secret>) -> Ask {
        let which = self.digest.as_ref().unwrap_or(&self.tag);
        let url = format!("{}/v2/{}/manifests/{which}", self.base(), self.repository);
        let body_bytes_max = if method == Method::HEAD { 0 } else { MANIFEST_BYTES_MAX };
        let ask = Ask { body_bytes_max, follow_redirects: true, ..Ask::new(method.clone(), url, ASK_WITHIN) };
        let ask = ask.header("accept", MANIFESTS);
        match authorization {
            Some(value) => ask.secret_header("authorization", value),
            None => ask,
        }
    }

    /// By custom a registry on this machine speaks plain HTTP, and `docker.io` is another host.
    fn base(&self) -> String {
        match self.registry.as_str() {
            DEFAULT_REGISTRY => "https://registry-1.docker.io".to_owned(),
            registry if speaks_plain_http(registry) => format!("http://{registry}"),
            registry => format!("https://{registry}"),
        }
    }

    /// What the challenge asks for: a token from another place, or the credentials themselves.
    async fn authorization(&self, challenge: &str, logins: &Logins) -> Result<Secret, RegistryError> {
        let login = logins.of(&self.registry);
        let denied = || RegistryError::Denied { registry: self.registry.clone(), what: self.to_string(), status: 401 };
        let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return login.map(|login| login.after("Basic ")).ok_or_else(denied);
        }
        let unknown = || RegistryError::Challenge {
            registry: self.registry.clone(),
            challenge: challenge.chars().take(200).collect(),
        };
        let words = parameters(rest);
        let word = |name: &str| words.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let realm = word("realm").filter(|_| scheme.eq_ignore_ascii_case("bearer")).ok_or_else(unknown)?;
        let mut url = reqwest::Url::parse(realm).map_err(|_| unknown())?;
        // A token for the whole world must not be asked for over a line that anyone reads.
        if url.scheme() != "https" && !self.base().starts_with("http://") {
            return Err(unknown());
        }
        if let Some(service) = word("service") {
            url.query_pairs_mut().append_pair("service", service);
        }
        let scope = word("scope").cloned().unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        url.query_pairs_mut().append_pair("scope", &scope);
        let ask = Ask::get(url.as_str(), ASK_WITHIN);
        let ask = match login {
            Some(login) => ask.secret_header("authorization", login.after("Basic ")),
            None => ask,
        };
        let answer = ask.send().await?;
        match answer.status {
            200 => {}
            401 | 403 => return Err(denied()),
            status => {
                let (registry, what) = (self.registry.clone(), "a token".to_owned());
                return Err(RegistryError::Status { registry, what, status });
            }
        }
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let token = body["token"].as_str().or_else(|| body["access_token"].as_str());
        token.map(|token| Secret::of(token).after("Bearer ")).ok_or_else(unknown)
    }
}

/// Whether a registry, by its address, is on this machine.
pub fn speaks_plain_http(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host.starts_with("127.")
}

/// `a="b",c="d, e"`: a comma inside quotes separates nothing.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_start_matches([',', ' ']).trim().to_owned();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.push((key, value.trim().to_owned()));
        rest = next;
    }
    found
}

/// What `docker login` and its like left on this machine; credential helpers are not run.
#[derive(Debug, Clone, Default)]
pub struct Logins(Value);

impl Logins {
    /// From `DOCKER_CONFIG`, or the home folder. Without a file, or with one that cannot be read, nobody is logged in.
    pub fn of_this_machine() -> Logins {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
        let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(home);
        let text = folder.and_then(|folder| std::fs::read(folder.join("config.json")).ok());
        Logins(text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default())
    }

    /// The user and the password of a registry, as `Basic` wants them.
    fn of(&self, registry: &str) -> Option<Secret> {
        let names = match registry {
            DEFAULT_REGISTRY => vec!["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"],
            registry => vec![registry],
        };
        let auths = &self.0["auths"];
        let found = names
            .into_iter()
            .flat_map(|name| [name.to_owned(), format!("https://{name}")])
            .find_map(|name| auths[&name]["auth"].as_str().filter(|auth| !auth.is_empty()).map(str::to_owned));
        found.map(Secret::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_docker_reads_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let cases = [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("jupyterhub/k8s-hub:4.1.0", "docker.io/jupyterhub/k8s-hub:4.1.0"),
            ("localhost/hub", "localhost/hub:latest"),
            ("localhost:5000/hub", "localhost:5000/hub:latest"),
            ("127.0.0.1:5000/a/b:x", "127.0.0.1:5000/a/b:x"),
            ("ghcr.io/a/b", "ghcr.io/a/b:latest"),
        ];
        for (text, whole) in cases {
            assert_eq!(text.parse::<Reference>().expect(text).to_string(), whole);
        }
        let pinned: Reference = format!("ghcr.io/a/b:1.2@{digest}").parse().expect("a reference");
        assert_eq!(pinned.to_string(), format!("ghcr.io/a/b@{digest}"));
        for bad in ["", "UPPER", "a//b", "ghcr.io/", "a:b c", "a@sha256:zz", "${image}"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn challenges_are_read() {
        let found = parameters(r#"realm="https://auth.example/token",service="a b",scope="repository:x:pull,push""#);
        let expected =
            [("realm", "https://auth.example/token"), ("service", "a b"), ("scope", "repository:x:pull,push")];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn logins_are_found_by_their_registry() {
        let logins = Logins(
            serde_json::json!({"auths": {"ghcr.io": {"auth": "dTpw"}, "https://index.docker.io/v1/": {"auth": "eDp5"}}}),
        );
        assert_eq!(logins.of("ghcr.io").expect("a login").reveal(), "dTpw");
        assert_eq!(logins.of("docker.io").expect("a login").reveal(), "eDp5");
        assert!(logins.of("quay.io").is_none());
    }
}
