//! Makes the units of a release: which of its services are the same as in another release, and how each is started.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use super::{
    instance::{PORT_PLACE, Start},
    log::Log,
    secrets::Secrets,
};
use crate::targets::{
    process::{
        config::{Service, called_service},
        wire::Brought,
    },
    template,
};

/// Everything a unit needs besides its instances' ports.
pub struct Surroundings<'a> {
    pub state_dir: &'a Path,
    /// The first part of every mark.
    pub id: &'a str,
    pub secrets: &'a Secrets,
    /// By service.
    pub internal_ports: &'a BTreeMap<String, u16>,
}

/// For each service of the release a key: equal keys in two releases mean that the same instances can serve both. It
/// covers the service's own files and settings, and those of every service it calls.
pub fn keys(release: &Brought) -> io::Result<BTreeMap<String, String>> {
    let services = &release.config.services;
    let mut own = BTreeMap::new();
    for (name, service) in services.iter() {
        own.insert(name.as_str(), own_content(release, service)?);
    }
    let key = |name: &str| {
        let mut content = name.as_bytes().to_vec();
        for reached in reached(release, name) {
            content.extend([0]);
            content.extend(reached.as_bytes());
            content.extend(&own[reached]);
        }
        digest(&content)
    };
    services.keys().map(|name| Ok((name.clone(), key(name)?))).collect()
}

/// The service itself and all that it calls, directly or not.
fn reached<'a>(release: &'a Brought, name: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![name];
    while let Some(name) = open.pop() {
        if reached.insert(name)
            && let Some(service) = release.config.services.get(name)
        {
            open.extend(service.calls());
        }
    }
    reached
}

fn own_content(release: &Brought, service: &Service) -> io::Result<Vec<u8>> {
    let settings = Service { route: None, ..service.clone() };
    let mut content = serde_json::to_vec(&settings).map_err(io::Error::other)?;
    for text in service.run.iter().chain(service.env.values()) {
        for variable in template::variables(text).unwrap_or_default() {
            if let Some(version) = variable.strip_prefix("version.").and_then(|name| release.versions.get(name)) {
                content.extend(format!("\0{variable}={version}").as_bytes());
            }
        }
    }
    if service.inputs.is_empty() {
        content.extend(release.tree.as_str().as_bytes());
    }
    for input in &service.inputs {
        read_input(&release.dir, Path::new(input), &mut content)?;
    }
    Ok(content)
}

/// Adds the names and contents of a file or a folder. An absent one counts as such.
fn read_input(dir: &Path, input: &Path, content: &mut Vec<u8>) -> io::Result<()> {
    content.extend([0]);
    content.extend(input.as_os_str().as_encoded_bytes());
    let full = dir.join(input);
    let Ok(meta) = fs::metadata(&full) else { return Ok(()) };
    if meta.is_dir() {
        let mut names = fs::read_dir(&full)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        return names.iter().try_for_each(|name| read_input(dir, &input.join(name), content));
    }
    content.extend(digest(&fs::read(&full)?)?.as_bytes());
    Ok(())
}

fn digest(content: &[u8]) -> io::Result<String> {
    let id = git2::Oid::hash_object(git2::ObjectType::Blob, content).map_err(io::Error::other)?;
    Ok(id.to_string())
}

/// How each instance of a service is started.
pub fn starts(release: &Brought, name: &str, key: &str, around: &Surroundings<'_>) -> Result<Vec<Start>, String> {
    let service = &release.config.services[name];
    let data = around.state_dir.join("data").join(name);
    fs::create_dir_all(&data).map_err(|error| format!("cannot make {}: {error}", data.display()))?;
    (0..service.instances.get())
        .map(|index| {
            let value = |variable: &str| match variable {
                "port" => Some(PORT_PLACE.to_owned()),
                "instance" => Some(index.to_string()),
                "release" => Some(release.dir.display().to_string()),
                "environment" => Some(release.environment.to_string()),
                "data" => Some(data.display().to_string()),
                other => match called_service(other) {
                    Some(called) => around.internal_ports.get(called).map(|port| format!("http://127.0.0.1:{port}")),
                    None => release.versions.get(other.strip_prefix("version.")?).cloned(),
                },
            };
            let expand =
                |text: &String| template::expand(text, value).map_err(|why| format!("service `{name}`: {why}"));
            Ok(Start {
                service: name.to_owned(),
                index,
                dir: release.dir.clone(),
                argv: service.run.iter().map(expand).collect::<Result<_, _>>()?,
                env: service.env.iter().map(|(k, v)| Ok((k.clone(), expand(v)?))).collect::<Result<_, String>>()?,
                secrets: around.secrets.clone(),
                secret_names: service.secrets.clone(),
                ready: service.ready.clone(),
                stop: service.stop,
                restarts: service.restarts,
                mark: format!("{}/{key}/{index}", around.id),
                log: Log::at(around.state_dir.join("logs").join(format!("{name}-{index}-{}.log", &key[..8]))),
            })
        })
        .collect()
}
