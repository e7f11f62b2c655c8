use axum::http::Request;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::world::*;

#[tokio::test]
async fn a_release_goes_through_its_shares_exactly_and_back_at_once() {
    let world = World::new();
    let target = world.target(web_config(json!({})));
    let (old, new) = (world.web("1.0.0"), world.web("1.1.0"));
    establish(&target, &old).await;
    let url = url(&target).await;
    apply(&target, &new).await.expect("it applies");
    assert_eq!(arms(&url, 20).await, (20, 0), "no users before a shift");
    shift(&target, &new, "10%").await.expect("it shifts");
    assert_eq!(arms(&url, 100).await, (90, 10));
    shift(&target, &new, "50%").await.expect("it shifts");
    assert_eq!(arms(&url, 100).await, (50, 50));
    shift(&target, &new, "100%").await.expect("it shifts");
    assert_eq!(arms(&url, 30).await, (0, 30));
    let weights = live(&target).await.releases;
    assert_eq!((weights[&old.tree], weights[&new.tree]), (0, 10_000));

    retreat(&target, &new, Some(&old)).await.expect("it goes back");
    assert_eq!(arms(&url, 30).await, (30, 0));
    assert!(get(&url).await.text().contains("web 1.0.0"));
    assert_eq!(world.trees.checkouts.lock().expect("no panic")[&old.tree], 1);
    eventually("the new release to be gone", || async {
        (world.report().await.releases.len() == 1 && world.processes().len() == 1).then_some(())
    })
    .await;
}

/// How many of so many requests each arm answered, and that the headers say who it was.
async fn arms(url: &str, requests: usize) -> (usize, usize) {
    let mut candidate = 0;
    for _ in 0..requests {
        let answer = get(url).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        candidate += usize::from(answer.header("x-piton-arm") == "candidate");
        assert_eq!(answer.header("x-piton-release").len(), 10);
    }
    (requests - candidate, candidate)
}

#[tokio::test]
async fn either_arm_can_be_asked_for_and_users_are_counted_apart() {
    let world = World::new();
    let target = world.target(web_config(json!({})));
    let (old, new) = (world.web("1.0.0"), world.web("1.2.0"));
    establish(&target, &old).await;
    apply(&target, &new).await.expect("it applies");
    let facts = live(&target).await.facts;
    let work = |base: &str| format!("{base}/work");
    assert_eq!(get(&work(&facts["candidate_url"])).await.status, 500);
    assert_eq!(get(&work(&facts["stable_url"])).await.status, 200);
    assert_eq!(get_with(&work(&facts["url"]), &[("x-piton-arm", "candidate")]).await.status, 500);
    assert_eq!(get(&work(&facts["url"])).await.status, 200);
    assert_eq!(get(&format!("{}/nowhere", facts["url"])).await.status, 404);

    let page = world.metrics().await;
    let (old, new) = (old.tree.short().to_owned(), new.tree.short().to_owned());
    let requests = |arm: &str, release: &str, class: &str| {
        let labels = format!("{{arm=\"{arm}\",service=\"web\",release=\"{release}\",class=\"{class}\"}}");
        value(&page, &format!("piton_requests_total{labels}"))
    };
    assert_eq!(requests("stable", &old, "ok"), 1.0);
    assert_eq!(requests("stable", &old, "client"), 1.0);
    assert_eq!(requests("candidate", &new, "failed"), 0.0);
    let labels = format!("{{whose=\"probe\",arm=\"candidate\",service=\"web\",release=\"{new}\",class=\"failed\"}}");
    assert_eq!(value(&page, &format!("piton_other_requests_total{labels}")), 2.0);
    let labels = format!("{{arm=\"stable\",service=\"web\",release=\"{old}\"}}");
    assert_eq!(value(&page, &format!("piton_request_seconds_count{labels}")), 2.0);
    assert_eq!(value(&page, "piton_weight{arm=\"stable\"}"), 1.0);
    let labels = format!("{{service=\"web\",instance=\"0\",release=\"{new}\"}}");
    for gauge in ["memory_bytes", "threads", "open_files", "ready", "processes"] {
        assert!(value(&page, &format!("piton_instance_{gauge}{labels}")) >= 1.0, "{gauge}\n{page}");
    }
}

fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{page}")).parse().expect("a number")
}

#[tokio::test]
async fn the_candidate_address_shows_the_release_on_trial_and_nothing_else() {
    let world = World::new();
    let target = world.target(web_config(json!({})));
    let (old, new) = (world.web("1.0.0"), world.web("1.1.0"));
    establish(&target, &old).await;
    let candidate = live(&target).await.facts["candidate_url"].clone();
    assert!(get(&candidate).await.text().contains("web 1.0.0"), "the last one that went all the way");
    apply(&target, &new).await.expect("it applies");
    assert!(get(&candidate).await.text().contains("web 1.1.0"));
    retreat(&target, &new, Some(&old)).await.expect("it goes back");
    assert!(get(&candidate).await.text().contains("web 1.0.0"), "what is gone back to is looked at again");
    establish(&target, &new).await;
    assert!(get(&candidate).await.text().contains("web 1.1.0"), "watched on after the promotion");
}

#[tokio::test]
async fn a_cookie_keeps_users_where_they_are() {
    let world = World::new();
    let target = world.target(web_config(json!({ "sticky": "seat" })));
    let (old, new) = (world.web("1.0.0"), world.web("1.1.0"));
    establish(&target, &old).await;
    apply(&target, &new).await.expect("it applies");
    shift(&target, &new, "20%").await.expect("it shifts");
    let url = url(&target).await;
    let mut users = Vec::new();
    for _ in 0..50 {
        let answer = get(&url).await;
        let cookie = answer.header("set-cookie").split(';').next().expect("a cookie").to_owned();
        users.push((cookie, answer.header("x-piton-arm").to_owned()));
    }
    let on_candidate = users.iter().filter(|(_, arm)| arm == "candidate").count();
    assert!((9..=11).contains(&on_candidate), "{on_candidate} of 50");
    for (cookie, arm) in &users {
        let answer = get_with(&url, &[("cookie", cookie)]).await;
        assert_eq!((answer.header("x-piton-arm"), answer.header("set-cookie")), (arm.as_str(), ""));
    }
    // A larger share only adds users.
    shift(&target, &new, "60%").await.expect("it shifts");
    for (cookie, arm) in &users {
        let now = get_with(&url, &[("cookie", cookie)]).await.header("x-piton-arm").to_owned();
        assert!(arm == "stable" || now == "candidate", "{cookie} was moved back");
    }
}

#[tokio::test]
async fn web_sockets_and_event_streams_pass() {
    let world = World::new();
    let target = world.target(web_config(json!({})));
    let release = world.web("1.0.0");
    establish(&target, &release).await;
    let url = url(&target).await;
    let (mut socket, response) =
        within(tokio_tungstenite::connect_async(url.replace("http", "ws") + "/ws")).await.expect("an upgrade");
    assert_eq!(response.headers()["x-piton-arm"], "stable");
    for message in [Message::text("hello"), Message::binary(vec![7; 100_000])] {
        within(socket.send(message.clone())).await.expect("sent");
        assert_eq!(within(socket.next()).await.expect("an echo").expect("a message"), message);
    }
    let request = Request::get(format!("{url}/events")).body(Full::<Bytes>::default()).expect("a request");
    let mut events = within(client().request(request)).await.expect("a stream").into_body();
    for n in 0..3 {
        let frame = within(events.frame()).await.expect("not the end").expect("a frame");
        assert_eq!(frame.into_data().expect("data"), format!("data: 1.0.0 {n}\n\n"));
    }
    // The connection counts as open: it is cut when its release is taken down and the drain is over.
    assert!(is_running(world.processes()[0]));
    let other = world.target(web_config(json!({ "drain": "200ms" })));
    let next = world.web("1.1.0");
    establish(&other, &next).await;
    retreat(&other, &next, None).await.expect("out");
    let end = within(async {
        loop {
            match socket.next().await {
                None | Some(Err(_)) => return,
                Some(Ok(_)) => {}
            }
        }
    });
    end.await;
}

#[tokio::test]
async fn large_and_slow_bodies_stream_both_ways() {
    let world = World::new();
    let target = world.target(web_config(json!({ "answer": "1s" })));
    let release = world.web("1.0.0");
    establish(&target, &release).await;
    let url = url(&target).await + "/echo";
    let large = Bytes::from(vec![b'x'; 10_000_000]);
    let request = Request::post(&url).body(Full::new(large.clone())).expect("a request");
    let answer = read(within(client().request(request)).await.expect("an answer")).await;
    assert!(answer.status == 200 && answer.body == large);

    // The second part is sent only when the first has come back: nothing is held until the body is complete.
    let (parts, body) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
    let body =
        StreamBody::new(futures_util::stream::unfold(body, |mut body| async { Some((body.recv().await?, body)) }));
    let request = Request::post(&url).body(BodyExt::boxed_unsync(body)).expect("a request");
    parts.send(Ok(Frame::data(Bytes::from("one")))).await.expect("sent");
    let mut back = within(client().request(request)).await.expect("an answer").into_body();
    for part in ["one", "two", "three"] {
        let frame = within(back.frame()).await.expect("not the end").expect("a frame");
        assert_eq!(frame.into_data().expect("data"), part);
        let next = if part == "one" { "two" } else { "three" };
        if part != "three" {
            parts.send(Ok(Frame::data(Bytes::from(next)))).await.expect("sent");
        }
    }
}

#[tokio::test]
async fn headers_are_those_of_a_proxy() {
    let world = World::new();
    let target = world.target(web_config(json!({})));
    establish(&target, &world.web("1.0.0")).await;
    let url = url(&target).await + "/headers";
    let sent = [
        ("connection", "x-mine, close"),
        ("x-mine", "1"),
        ("x-forwarded-for", "10.0.0.9"),
        ("x-piton-arm", "stable"),
        ("host", "users.example"),
        ("x-other", "kept"),
    ];
    let seen = get_with(&url, &sent).await.text();
    for line in [
        "x-forwarded-for: 10.0.0.9, 127.0.0.1",
        "x-forwarded-host: users.example",
        "host: users.example",
        "x-other: kept",
        "x-forwarded-proto: http",
    ] {
        assert!(seen.lines().any(|l| l == line), "no {line} in\n{seen}");
    }
    assert!(!seen.contains("x-mine") && !seen.contains("x-piton-arm"), "{seen}");
}

#[tokio::test]
async fn requests_under_way_end_before_their_release_does() {
    let world = World::new();
    let target = world.target(web_config(json!({})));
    let (slow, next) = (world.web("slow"), world.web("1.1.0"));
    establish(&target, &slow).await;
    let url = url(&target).await + "/work";
    apply(&target, &next).await.expect("it applies");
    shift(&target, &next, "100%").await.expect("it shifts");
    let asked = tokio::spawn(async move { get_with(&url, &[("x-piton-arm", "stable")]).await });
    eventually("the request to be under way", || async { (world.report().await.open["web"] == 1).then_some(()) }).await;
    let note = settle(&target, Some(&next)).await.expect("it settles").note;
    assert!(!note.contains("cut"), "{note}");
    assert_eq!(within(asked).await.expect("no panic").status, 200);
}

#[tokio::test]
async fn a_request_that_outlives_the_drain_is_cut_and_told() {
    let world = World::new();
    let target = world.target(web_config(json!({ "drain": "200ms" })));
    let (old, next) = (world.web("1.0.0"), world.web("1.1.0"));
    establish(&target, &old).await;
    let request = Request::get(url(&target).await + "/events").body(Full::<Bytes>::default()).expect("a request");
    let events = within(client().request(request)).await.expect("a stream").into_body();
    apply(&target, &next).await.expect("it applies");
    shift(&target, &next, "100%").await.expect("it shifts");
    let note = settle(&target, Some(&next)).await.expect("it settles").note;
    assert!(note.contains("`web` still had 1 open requests or connections, which were cut"), "{note}");
    assert!(within(events.collect()).await.is_err(), "the stream broke off");
}

#[tokio::test]
async fn a_refused_connection_goes_to_another_instance() {
    let world = World::new();
    let run = [env!("CARGO_BIN_EXE_piton"), "sample", "--port", "${port}", "--file", "web-${instance}.yaml"];
    let target = world.target(web_config(json!({ "services": { "web": { "instances": 2, "run": run } } })));
    let deaf = "name: web\nversion: deaf\nversions: { deaf: { deaf_after: 2s } }\n";
    let release = world.release(&[("web-0.yaml", deaf), ("web-1.yaml", "name: web\nversion: good\n")]);
    establish(&target, &release).await;
    let url = url(&target).await;
    let port = world.report().await.instances[0].port;
    eventually("the first instance to refuse", || async {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_err().then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(get(&url).await.status, 200);
    }
    assert_eq!(world.report().await.instances[0].condition, "ready", "it was tried, each second time");
}

#[tokio::test]
async fn an_instance_that_was_killed_comes_back() {
    let world = World::new();
    let target = world.target(web_config(json!({})));
    establish(&target, &world.web("1.0.0")).await;
    let first = world.report().await.instances[0].pid.expect("it runs");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGKILL).expect("it runs");
    eventually("the instance to be back", || async {
        let instance = world.report().await.instances[0].clone();
        (instance.condition == "ready" && instance.restarts == 1).then_some(())
    })
    .await;
    assert_eq!(get(&url(&target).await).await.status, 200);
}

#[tokio::test]
async fn services_share_instances_when_nothing_of_theirs_changed() {
    let world = World::new();
    let piton = env!("CARGO_BIN_EXE_piton");
    let service = |name: &str, calls: &[&str]| {
        let mut run = vec![piton.to_owned(), "sample".into(), "--port".into(), "${port}".into(), "--file".into()];
        run.push(format!("{name}.yaml"));
        for call in calls {
            run.extend(["--call".to_owned(), format!("${{service.{call}.url}}")]);
        }
        json!({ "run": run, "ready": { "path": "/ready" }, "inputs": [format!("{name}.yaml")] })
    };
    let mut config = json!({ "services": {
        "web": service("web", &["api"]), "api": service("api", &["store"]), "store": service("store", &[]),
    } });
    config["services"]["web"]["route"] = json!("/");
    config["services"]["api"]["route"] = json!("/api/");
    let target = world.target(config);
    let release = |web: &str, api: &str, store: &str| {
        let text = |name: &str, version: &str| format!("name: {name}\nversion: {version}\n");
        let (web, api, store) = (text("web", web), text("api", api), text("store", store));
        world.release(&[("web.yaml", &web), ("api.yaml", &api), ("store.yaml", &store)])
    };
    let (first, second) = (release("1", "1", "1"), release("1", "2", "1"));
    establish(&target, &first).await;
    let pids = |service: &'static str| {
        let world = &world;
        async move {
            let instances = world.report().await.instances.into_iter().filter(|i| i.service == service);
            instances.map(|i| (i.pid.expect("it runs"), i.releases.len())).collect::<Vec<_>>()
        }
    };
    let store = pids("store").await;
    apply(&target, &second).await.expect("it applies");
    assert_eq!(pids("store").await, [(store[0].0, 2)], "the store serves both");
    assert_eq!(pids("api").await.len(), 2);
    assert_eq!(pids("web").await.len(), 2, "it calls the api, which changed");
    let facts = live(&target).await.facts;
    let work = get(&format!("{}/work", facts["candidate_url"])).await.text();
    assert_eq!(versions(&work), ["web 1", "api 2", "store 1"]);
    let work = get(&format!("{}/work", facts["url"])).await.text();
    assert_eq!(versions(&work), ["web 1", "api 1", "store 1"]);
    shift(&target, &second, "100%").await.expect("it shifts");
    settle(&target, Some(&second)).await.expect("it settles");
    assert_eq!(pids("store").await, [(store[0].0, 1)], "the store was never restarted");
    assert_eq!(versions(&get(&format!("{}/work", facts["url"])).await.text()), ["web 1", "api 2", "store 1"]);
}

fn versions(work: &str) -> Vec<&str> {
    work.lines().filter_map(|line| line.split(':').next()).collect()
}
