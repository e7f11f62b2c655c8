//! Realistic files: a bump is exactly what replacing the old text at its one place gives.

use std::path::PathBuf;

use piton::{
    edit::{self, At, Part, Place},
    model::Version,
};

/// File, path (or pattern, after `~`), part, line, and what stands there.
const PLACES: &str = r#"
values.yaml | binderhub.image.tag | whole | 16 | 1.0.0-0.dev.git.3983.h383374de
values.yaml | binderhub.config.BinderHub.build_image | tag | 21 | 2025.12.1.dev39-g8ff237f9d
values.yaml | binderhub.config.BinderHub.build_image | whole | 21 | quay.io/example/repo2docker:2025.12.1.dev39-g8ff237f9d
values.yaml | binderhub.config.BinderHub.per_repo_quota | whole | 22 | 100
values.yaml | binderhub.config.BinderHub.per_repo_quota_higher | whole | 23 | 200
values.yaml | binderhub.config.GitHubRepoProvider.spec_config[0].config.quota | whole | 31 | 300
values.yaml | binderhub.config.GitHubRepoProvider.spec_config[pattern="^example/course.*"].config.quota | whole | 32 | 150
values.yaml | .binderhub.dind.daemonset.image.tag | whole | 35 | 27.5.1-dind
values.yaml | binderhub.imageCleaner.enabled | whole | 37 | true
values.yaml | binderhub.imageCleaner.imageGCThresholdHigh | whole | 38 | 80
values.yaml | binderhub.jupyterhub.hub.image.tag | whole | 45 | 4.2.0
values.yaml | binderhub.jupyterhub.singleuser.cmd | whole | 53 | jupyterhub-singleuser
values.yaml | binderhub.jupyterhub.singleuser.memory.guarantee | whole | 51 | 450M
values.yaml | binderhub.jupyterhub.singleuser.initContainers[name=tc-init].image | tag | 56 | 0.0.4
values.yaml | binderhub.jupyterhub.singleuser.initContainers[name=fix-permissions].image | tag | 60 | 1.36
values.yaml | binderhub.jupyterhub.singleuser.initContainers[0].env[name=EGRESS_BANDWIDTH].value | whole | 58 | 1mbit
values.yaml | federationRedirect.hosts.alpha.weight | whole | 67 | 50
values.yaml | federationRedirect.hosts.beta.weight | whole | 70 | 50
values.yaml | grafana.annotations["checksum/config.v1"] | whole | 75 | 3f2a9c1d
values.yaml | grafana.annotations["kubernetes.io/ingress.class"] | whole | 74 | traefik
Chart.yaml | appVersion | whole | 2 | 1.0
Chart.yaml | version | whole | 5 | 0.0.1-set.by.chartpress
Chart.yaml | dependencies[name=binderhub].version | whole | 9 | 1.0.0-0.dev.git.3983.h383374de
Chart.yaml | dependencies[name=traefik].version | whole | 14 | 41.1.1
Chart.yaml | dependencies[name=prometheus].version | whole | 17 | 29.21.0
Chart.yaml | dependencies[name=grafana].version | whole | 20 | 10.5.15
Chart.yaml | dependencies[name=cryptnono].version | whole | 23 | 0.3.2-dev.267
Chart.yaml | dependencies[alias=hub-db].version | whole | 26 | ~15.5.0
requirements.txt | jupyterhub | whole | 3 | 5.5.0
requirements.txt | jupyterhub-kubespawner | whole | 4 | 7.1.0
requirements.txt | jupyterhub-idle-culler | whole | 5 | 1.4.0
requirements.txt | oauthenticator | whole | 6 | 17.3.0
requirements.txt | nullauthenticator | whole | 7 | 1.0.0
requirements.txt | pymysql | whole | 8 | 1.1.1
requirements.txt | firstuse | whole | 9 | 4a1b2c3
requirements.txt | custom-theme | whole | 10 | v0.4.2
requirements.txt | ~^psycopg2-binary>=(\S+)$ | whole | 11 | 2.9
workflow.yaml | env.HELM_VERSION | whole | 7 | v3.19.5
workflow.yaml | env.KUBECTL_VERSION | whole | 8 | v1.35.2
workflow.yaml | env.GCLOUD_VERSION | whole | 9 | 559.0.0
workflow.yaml | jobs.staging.strategy.matrix.include[release=beta].chart | whole | 21 | 0.9.0
workflow.yaml | jobs.staging.steps[0].uses | tag | 23 | v4
workflow.yaml | jobs.staging.steps[1].uses | tag | 26 | v5
workflow.yaml | jobs.staging.steps[1].with.python-version | whole | 28 | 3.12
workflow.yaml | jobs.staging.steps[name="Install helm"].uses | tag | 30 | b9e51907a09c216f16ebe8536097933489208112
cert-manager.env | CERT_MANAGER_VERSION | whole | 2 | v1.20.2
cert-manager.env | KUBECTL_VERSION | whole | 3 | v1.35.2
cert-manager.env | HELM_VERSION | whole | 4 | v3.19.5
cert-manager.env | IMAGE | tag | 5 | 2026.01.2
cert-manager.env | REPLICAS | whole | 6 | 2
cert-manager.env | LAST_BACKUP | whole | 8 | 2026-01-31
cert-manager.env | ~^URL="https://example.org/([^/]+)/ | whole | 9 | v1.20.2
package.json | version | whole | 3 | 0.4.2
package.json | dependencies["@jupyterlab/application"] | whole | 7 | ^4.2.0
package.json | dependencies.configurable-http-proxy | whole | 8 | 4.6.3
package.json | dependencies.lodash | whole | 9 | 4.17.21
package.json | devDependencies.lodash | whole | 12 | 4.17.21
package.json | config.port | whole | 14 | 8000
package.json | config.tags[0] | whole | 14 | 0.4.2
pyproject.toml | project.version | whole | 4 | 0.4.2
pyproject.toml | project.dependencies[0] | whole | 7 | jupyterhub==5.5.0
pyproject.toml | project.dependencies[1] | whole | 8 | tornado==6.4.1
pyproject.toml | tool.example["image.tags"].hub | whole | 12 | 4.2.0
pyproject.toml | tool.example["image.tags"].proxy.tag | whole | 13 | 4.6.3
pyproject.toml | tool.example["image.tags"].proxy.weight | whole | 13 | 50
pyproject.toml | tool.example["image.tags"].released | whole | 14 | 2026-01-31
pyproject.toml | tool.example.members[name=beta].chart | whole | 23 | 0.9.0
pyproject.toml | ~"jupyterhub==([^"]+)" | whole | 7 | 5.5.0
kustomization.yaml | images[name=example/api].newTag | whole | 8 | 1.4.2
kustomization.yaml | images[name="registry.example.org:5000/web"].newTag | whole | 11 | 20260131
kustomization.yaml | images[name=example/worker].digest | whole | 12 | sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
kustomization.yaml | replicas[name=api].count | whole | 15 | 3
kustomization.yaml | ~manifests/([^/]+)/install | whole | 4 | v2.10.4
manifests.yaml | #1:spec.template.spec.containers[name=main].image | tag | 12 | 0.1.0-441f5ea
manifests.yaml | spec.template.spec.containers[name=sidecar].image | tag | 16 | 2.4.1
manifests.yaml | spec.replicas | whole | 7 | 3
manifests.yaml | #2:spec.template.spec.containers[name=main].image | tag | 32 | sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
manifests.yaml | spec.template.spec.containers[0].resources.limits.cpu | whole | 33 | 1.5
manifests.yaml | data.version | whole | 43 | v1.20.2
manifests.yaml | metadata.annotations["example.org/release"] | whole | 41 | v1.20.2
manifests.yaml | data.switch | whole | 44 | yes
helmfile.yaml | releases[name=hub].version | whole | 13 | 4.2.0
helmfile.yaml | releases[name=hub-staging].version | whole | 23 | 4.2.0
helmfile.yaml | releases[name=größe].version | whole | 27 | 0.2.0-n562.h0b4462c
helmfile.yaml | releases[0].values[0].singleuser.image.tag | whole | 18 | f97fdd7
helmfile.yaml | releases[0].values[0].singleuser.extraEnv.PYTHON_VERSION | whole | 19 | 3.12
helmfile.yaml | helmDefaults.timeout | whole | 7 | 600
Dockerfile | ~^ARG PYTHON_VERSION=(.+)$ | whole | 2 | 3.12.4
Dockerfile | ~^ARG NODE_VERSION=(.+)$ | whole | 4 | 20.16.0
Dockerfile | ~HUB_VERSION=(\S+) | whole | 5 | 5.5.0
Dockerfile | ~jupyterhub==(\S+) | whole | 8 | 5.5.0
Dockerfile | ~"tornado==([^"]+)" | whole | 9 | 6.4.1
Dockerfile | ~^FROM (registry\S+)$ | tag | 10 | 24.04.1
Dockerfile | ~image\.version="([^"]+)" | whole | 12 | 0.4.2
cluster.tf | ~required_version = "~> ([^"]+)" | whole | 2 | 1.9.5
cluster.tf | ~"hashicorp/helm"\s+version = "~> ([^"]+)" | whole | 10 | 2.15.0
cluster.tf | ~node_version\s+= "([^"]+)" | whole | 17 | 1.30.3-gke.1639000
cluster.tf | ~initial_node_count = (\d+) | whole | 18 | 3
chartpress.template.yaml | ~image: (example/probe:\S+) | tag | 10 | 0.3.1
"#;

struct Row {
    place: Place,
    line: usize,
    value: &'static str,
}

fn rows() -> Vec<Row> {
    let row = |line: &'static str| {
        let mut cells = line.split(" | ");
        let mut cell = || cells.next().unwrap_or_else(|| panic!("{line} has too few cells")).trim();
        let (file, at, part, number, value) = (cell(), cell(), cell(), cell(), cell());
        let at = match at.strip_prefix('~') {
            Some(pattern) => At::Pattern(pattern.to_owned()),
            None => At::Path(at.parse().unwrap_or_else(|error| panic!("{error}"))),
        };
        let part = if part == "tag" { Part::Tag } else { Part::Whole };
        let line = number.parse().expect("a line number");
        Row { place: Place { file: file.to_owned(), at, part }, line, value }
    };
    PLACES.lines().filter(|line| !line.is_empty()).map(row).collect()
}

fn fixture(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/edit").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn version(text: &str) -> Version {
    Version::new(text).expect("a good version")
}

/// What a person with an editor would make of it: the one occurrence on that line replaced.
fn replaced(text: &str, row: &Row, to: &str) -> String {
    let start: usize = text.split_inclusive('\n').take(row.line - 1).map(str::len).sum();
    let line = text[start..].split_inclusive('\n').next().unwrap_or_default();
    let whole_words = line.match_indices(row.value).filter(|(at, _)| {
        let word = |c: char| c.is_ascii_alphanumeric();
        let (before, after) = (&line[..*at], &line[at + row.value.len()..]);
        !before.ends_with(word) && !after.starts_with(word)
    });
    let at = whole_words.map(|(at, _)| at).next().unwrap_or_else(|| panic!("{} is not on {line:?}", row.value));
    [&text[..start + at], to, &text[start + at + row.value.len()..]].concat()
}

/// Texts of the same kind as the old value, as the next versions would be.
fn bumps(value: &str) -> Vec<String> {
    let digits: Vec<usize> = value.char_indices().filter(|(_, c)| c.is_ascii_digit()).map(|(at, _)| at).collect();
    let with = |at: usize, digit: char| {
        let changed = format!("{}{digit}{}", &value[..at], &value[at + 1..]);
        changed
    };
    let mut all: Vec<String> = digits.iter().flat_map(|at| ['2', '7'].map(|digit| with(*at, digit))).collect();
    match value {
        "true" => all.push("false".to_owned()),
        "yes" => all.push("no".to_owned()),
        _ if digits.is_empty() => all.push(format!("{value}-debug")),
        _ => (),
    }
    all.retain(|to| to != value && is_date_if(value, to));
    all.truncate(BUMPS_PER_PLACE);
    all
}

const BUMPS_PER_PLACE: usize = 12;

/// A date bumped digit by digit must still be one.
fn is_date_if(value: &str, to: &str) -> bool {
    let date = |text: &str| text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok();
    !date(value) || date(to)
}

#[test]
fn a_bump_is_the_plain_replacement_of_its_one_place() {
    let mut bumped = 0;
    for row in rows() {
        let text = fixture(&row.place.file);
        let found = edit::read(text.as_bytes(), &row.place).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(found, Some(version(row.value)), "{:?}", row.place);
        for to in bumps(row.value) {
            let out = edit::write(text.as_bytes(), &row.place, Some(&version(row.value)), &version(&to))
                .unwrap_or_else(|error| panic!("{error}"));
            let out = String::from_utf8(out).expect("text");
            assert_eq!(out, replaced(&text, &row, &to), "{:?} -> {to}", row.place);
            let back = edit::write(out.as_bytes(), &row.place, Some(&version(&to)), &version(row.value));
            assert_eq!(back.as_deref(), Ok(text.as_bytes()), "{:?} -> {to} and back", row.place);
            bumped += 1;
        }
    }
    assert!(bumped >= 500, "only {bumped} bumps were tried");
}

#[test]
fn files_that_cannot_be_changed_by_path_say_why() {
    for (file, path, reason) in [
        ("values.yaml", "binderhub.pdb.minAvailable", "`binderhub.pdb` is an alias (line 13)"),
        ("values.yaml", "pdb.minAvailable", "the alias on line 13"),
        (
            "values.yaml",
            "binderhub.jupyterhub.hub.imgae.tag",
            "`binderhub.jupyterhub.hub` has no key `imgae`; the nearest is `image`",
        ),
        ("values.yaml", "binderhub.config.BinderHub.banner_message", "several lines"),
        ("Chart.yaml", "dependencies[name=treafik].version", "no item with name=treafik; the nearest is `traefik`"),
        ("requirements.txt", "psycopg2-binary", "line 11 does not pin one version"),
        ("workflow.yaml", "env.TOKEN", "a template"),
        ("manifests.yaml", "metadata.name", "the path is in the documents 1, 2 and 3"),
        ("chartpress.template.yaml", "kind", "line 1 is template syntax"),
        ("Dockerfile", "PYTHON_VERSION", "says nothing about its format"),
    ] {
        let place = Place { file: file.to_owned(), at: At::Path(path.parse().expect("a path")), part: Part::Whole };
        let error = edit::write(fixture(file).as_bytes(), &place, None, &version("9")).expect_err("this is refused");
        assert!(error.to_string().contains(reason), "{path}: {error}");
    }
}

#[test]
fn a_pin_goes_in_and_out_again() {
    for (file, path, after) in [
        ("values.yaml", "binderhub.jupyterhub.hub.image.pullPolicy", "        tag: '4.2.0'\n"),
        ("values.yaml", "binderhub.jupyterhub.proxy.chp.image.tag", "      maxAge: 21600\n"),
        ("helmfile.yaml", "helmDefaults.kubeContext", "    timeout: 600\n"),
        ("manifests.yaml", "#3:data.pin", "  switch: \"yes\""),
        ("Chart.yaml", "dependencies[name=traefik].alias", "    repository: oci://registry.example.org/traefik\n"),
    ] {
        let text = fixture(file);
        let place = Place { file: file.to_owned(), at: At::Path(path.parse().expect("a path")), part: Part::Whole };
        let pinned = edit::insert(text.as_bytes(), &place, &version("4.6.3")).unwrap_or_else(|error| panic!("{error}"));
        let at = text.find(after).expect("the neighbour") + after.len();
        assert_eq!(&pinned[..at], &text.as_bytes()[..at], "{path} belongs behind its neighbours");
        assert_eq!(edit::read(&pinned, &place), Ok(Some(version("4.6.3"))));
        assert!(edit::remove(&pinned, &place, Some(&version("4.6.4"))).is_err(), "{path} says something else");
        assert_eq!(edit::remove(&pinned, &place, Some(&version("4.6.3"))).as_deref(), Ok(text.as_bytes()), "{path}");
    }
}
