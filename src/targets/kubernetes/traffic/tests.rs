use serde_json::{Value, json};

use super::*;

mod odd;

fn share(text: &str) -> Share {
    text.parse().expect("a share")
}

fn router(yaml: &str) -> Router {
    serde_yaml::from_str::<Value>(yaml).map(|value| serde_json::from_value(value).expect(yaml)).expect("it is YAML")
}

fn pair() -> Pair {
    Pair { namespace: "hub".into(), stable: "web".into(), canary: "web-canary".into(), owned: true }
}

/// A route of each kind with a stable backend that has no weight, or the least that the kind allows.
fn kinds() -> Vec<(Router, Value)> {
    vec![
        (
            router("gateway: { routes: [web] }"),
            json!({"kind": "HTTPRoute", "metadata": {"name": "web"}, "spec": {"rules": [
                {"backendRefs": [{"name": "web", "port": 80}]},
                {"backendRefs": [{"name": "other", "port": 80}]},
            ]}}),
        ),
        (
            router("gateway: { routes: [web], kind: GRPCRoute }"),
            json!({"kind": "GRPCRoute", "metadata": {"name": "web"}, "spec": {"rules": [
                {"matches": [{"method": {"service": "shop.Cart"}}], "backendRefs": [{"name": "web", "port": 80}]},
            ]}}),
        ),
        (
            router("istio: { virtual_services: [web] }"),
            json!({"kind": "VirtualService", "metadata": {"name": "web"}, "spec": {"http": [
                {"name": "docs", "route": [{"destination": {"host": "docs"}}]},
                {"name": "main", "route": [{"destination": {"host": "web.hub.svc"}}]},
            ]}}),
        ),
        (
            router("traefik: { services: [web] }"),
            json!({"kind": "TraefikService", "metadata": {"name": "web"}, "spec": {"weighted": {"services": [
                {"name": "web", "port": 80},
            ]}}}),
        ),
        (
            router("generic: { preset: alb, name: web }"),
            json!({"kind": "Ingress", "metadata": {"name": "web", "annotations": {
                "alb.ingress.kubernetes.io/actions.web": json!({"type": "forward", "forwardConfig": {"targetGroups": [
                    {"serviceName": "web", "servicePort": 80, "weight": 1},
                ]}}).to_string(),
            }}}),
        ),
        (
            router("generic: { preset: alb, name: web, action: pay }"),
            json!({"kind": "Ingress", "metadata": {"name": "web", "annotations": {
                "alb.ingress.kubernetes.io/actions.pay": json!({"Type": "forward", "ForwardConfig": {"TargetGroups": [
                    {"ServiceName": "web", "ServicePort": "80", "Weight": 1},
                ]}}).to_string(),
            }}}),
        ),
        (
            router("generic: { preset: apisix, name: web }"),
            json!({"kind": "ApisixRoute", "metadata": {"name": "web"}, "spec": {"http": [{"name": "a", "backends": [
                {"serviceName": "web", "servicePort": 80},
            ]}]}}),
        ),
        (
            router("generic: { preset: contour, name: web }"),
            json!({"kind": "HTTPProxy", "metadata": {"name": "web"}, "spec": {"routes": [{"services": [
                {"name": "web", "port": 80},
            ]}]}}),
        ),
        (
            router("generic: { preset: gloo, name: web }"),
            json!({"kind": "RouteTable", "metadata": {"name": "web"}, "spec": {"routes": [{"routeAction": {"multi": {
                "destinations": [{"destination": {"kube": {"ref": {"name": "web", "namespace": "hub"}}}, "weight": 1}],
            }}}]}}),
        ),
        (
            router("generic: { preset: gloo, name: web }"),
            json!({"kind": "RouteTable", "metadata": {"name": "web"}, "spec": {"routes": [{"routeAction": {"multi": {
                "destinations": [
                    {"destination": {"upstream": {"name": "hub-docs-80", "namespace": "gloo-system"}}, "weight": 1},
                    {"destination": {"upstream": {"name": "hub-web-8080", "namespace": "gloo-system"}}, "weight": 300},
                ],
            }}}]}}),
        ),
        (
            router("generic: { preset: contour, name: web }"),
            json!({"kind": "HTTPProxy", "metadata": {"name": "web"}, "spec": {"routes": [{"services": [
                {"name": "docs", "port": 80}, {"name": "web", "port": 80},
            ]}]}}),
        ),
        (
            router("generic: { preset: smi, name: web }"),
            json!({"kind": "TrafficSplit", "metadata": {"name": "web"}, "spec": {"service": "root", "backends": [
                {"service": "web", "weight": 100},
            ]}}),
        ),
        (
            router("generic: { api_version: a/v1, kind: K, name: web, canary_weight: spec.canary.percent }"),
            json!({"kind": "K", "metadata": {"name": "web"}, "spec": {"canary": {"percent": 0}}}),
        ),
    ]
}

#[test]
fn every_kind_goes_there_and_back_without_a_trace() {
    for (router, route) in kinds() {
        let mut live = route.clone();
        for wanted in ["5%", "50%", "100%", "0%"] {
            live = steered(&router, &pair(), &live, share(wanted), &Extras::default(), 7).expect("it is written");
            let read = super::share(&router, &pair(), &live).expect("it is read");
            assert_eq!(read, share(wanted), "{live}");
            assert_eq!(record::foreign_edit(&router, &pair(), &live), None, "{live}");
        }
        assert_eq!(cleared(&router, &pair(), &live).expect("it is cleared"), route);
        // Clearing what has nothing of ours writes nothing.
        assert_eq!(cleared(&router, &pair(), &route).expect("it is cleared"), route);
    }
}

#[test]
fn writing_twice_is_writing_once() {
    for (router, route) in kinds() {
        let once = steered(&router, &pair(), &route, share("20%"), &Extras::default(), 7).expect("it is written");
        let twice = steered(&router, &pair(), &once, share("20%"), &Extras::default(), 7).expect("it is written");
        assert_eq!(once, twice);
    }
}

#[test]
fn other_backends_keep_their_weight_and_their_place() {
    let router = router("gateway: { routes: [web] }");
    let route = json!({"metadata": {}, "spec": {"rules": [{"backendRefs": [
        {"name": "old", "weight": 30}, {"name": "web", "weight": 60}, {"name": "beta", "weight": 10},
    ]}]}});
    let new = steered(&router, &pair(), &route, share("50%"), &Extras::default(), 1).expect("it is written");
    assert_eq!(
        new["spec"]["rules"][0]["backendRefs"],
        json!([
            {"name": "old", "weight": 30}, {"name": "web", "weight": 30},
            {"name": "web-canary", "weight": 30}, {"name": "beta", "weight": 10},
        ])
    );
    assert_eq!(cleared(&router, &pair(), &new).expect("cleared"), route);
}

#[test]
fn a_weight_of_one_beside_others_cannot_be_split() {
    let router = router("gateway: { routes: [web] }");
    let route = json!({"spec": {"rules": [{"backendRefs": [{"name": "old"}, {"name": "web"}]}]}});
    let fault = steered(&router, &pair(), &route, share("10%"), &Extras::default(), 1).expect_err("too coarse");
    assert_eq!(
        fault.to_string(),
        "at `spec.rules[0].backendRefs` our backends have a weight of 1 beside others', so 10% cannot be written (the \
         nearest above is 100%); give all backends there a hundred times the weight"
    );
}

#[test]
fn istio_weights_add_up_to_a_hundred_with_others() {
    let router = router("istio: { virtual_services: [web] }");
    let route = json!({"spec": {"http": [{"route": [
        {"destination": {"host": "web"}, "weight": 80}, {"destination": {"host": "beta"}, "weight": 20},
    ]}]}});
    let new = steered(&router, &pair(), &route, share("25%"), &Extras::default(), 1).expect("it is written");
    let weights: Vec<u64> = new["spec"]["http"][0]["route"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|r| r["weight"].as_u64())
        .collect();
    assert_eq!(weights, [60, 20, 20]);
    assert_eq!(new["spec"]["http"][0]["route"][1]["destination"]["host"], "web-canary.hub.svc.cluster.local");
}

#[test]
fn istio_subsets_share_a_host() {
    let router = router("istio: { virtual_services: [web], subsets: { stable: v1, canary: next } }");
    let route = json!({"spec": {"tcp": [{"route": [{"destination": {"host": "web", "subset": "v1"}}]}]}});
    let new = steered(&router, &pair(), &route, share("10%"), &Extras::default(), 1).expect("it is written");
    assert_eq!(
        new["spec"]["tcp"][0]["route"],
        json!([
            {"destination": {"host": "web", "subset": "v1"}, "weight": 90},
            {"destination": {"host": "web", "subset": "next"}, "weight": 10},
        ])
    );
}

#[test]
fn an_edit_by_somebody_else_is_told_and_by_whom() {
    let router = router("gateway: { routes: [web] }");
    let (_, route) = kinds().remove(0);
    let mut live = steered(&router, &pair(), &route, share("10%"), &Extras::default(), 7).expect("it is written");
    live["metadata"]["managedFields"] = json!([
        {"manager": "piton", "operation": "Update", "time": "2026-11-21T10:00:00Z"},
        {"manager": "kubectl-label", "operation": "Update", "time": "2026-11-21T10:05:00Z"},
    ]);
    assert_eq!(record::foreign_edit(&router, &pair(), &live), None);
    live["spec"]["rules"][0]["backendRefs"][1]["weight"] = 3000.into();
    let edit = "at `spec.rules[0].backendRefs` the canary gets 25% (weight 3000 beside 9000), and piton wrote 10%";
    let told = |live: &Value| record::foreign_edit(&router, &pair(), live).expect("an edit");
    // Nobody says that the weights are theirs.
    assert_eq!(told(&live), format!("{edit}; the last other writer is `kubectl-label`, at 2026-11-21T10:05:00Z"));
    live["metadata"]["managedFields"].as_array_mut().expect("a list").push(json!(
        {"manager": "kubectl-edit", "operation": "Update", "time": "2026-11-21T10:03:00Z", "fieldsV1": {"f:spec": {"f:rules": {}}}}
    ));
    assert_eq!(told(&live), format!("{edit} (kubectl-edit, 2026-11-21T10:03:00.000Z)"));
    live["spec"]["rules"][0]["backendRefs"] = json!([{"name": "else"}]);
    assert!(record::foreign_edit(&router, &pair(), &live).is_some());
}

#[test]
fn testers_and_mirrors_come_and_go_with_the_canary() {
    let extras = Extras {
        testers: serde_json::from_value(json!({"header": {"x-canary": "yes"}, "cookie": {"tester": "1"}})).ok(),
        mirror: Some(share("10%")),
    };
    let able =
        |(router, _): &(Router, Value)| matches!(router, Router::Gateway(_) | Router::Istio(_) | Router::Traefik(_));
    for (router, route) in kinds().into_iter().filter(able) {
        let new = steered(&router, &pair(), &route, share("5%"), &extras, 1).expect("it is written");
        let text = new.to_string();
        assert!(text.contains("irror"), "{text}");
        assert_eq!(steered(&router, &pair(), &new, share("5%"), &extras, 1).expect("again"), new);
        assert_eq!(super::share(&router, &pair(), &new).expect("read"), share("5%"));
        assert_eq!(record::foreign_edit(&router, &pair(), &new), None);
        let all = steered(&router, &pair(), &new, Share::WHOLE, &extras, 1).expect("it is written");
        assert!(!all.to_string().contains("irror"), "{all}");
        assert_eq!(cleared(&router, &pair(), &new).expect("cleared"), route);
    }
}

#[test]
fn a_testers_route_matches_what_the_stable_one_does_and_the_header() {
    let router = router("gateway: { routes: [web] }");
    let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web"},
    "spec": {"parentRefs": [{"name": "front"}], "hostnames": ["a.example"], "rules": [{
        "matches": [{"path": {"type": "PathPrefix", "value": "/hub"}}],
        "backendRefs": [{"name": "web", "port": 80}],
    }]}});
    let testers = serde_json::from_value(json!({"header": {"x-canary": "yes"}})).expect("testers");
    let extras = Extras { testers: Some(testers), mirror: None };
    let made = router.companions(&pair(), &route, &extras).remove(0);
    assert_eq!(
        made["spec"],
        json!({"parentRefs": [{"name": "front"}], "hostnames": ["a.example"], "rules": [{
            "matches": [{
                "path": {"type": "PathPrefix", "value": "/hub"},
                "headers": [{"type": "Exact", "name": "x-canary", "value": "yes"}],
            }],
            "backendRefs": [{"name": "web-canary", "port": 80, "weight": 1}],
        }]})
    );
}

#[test]
fn a_mirror_of_traefik_asks_stable_and_copies_to_the_canary() {
    let router = router("traefik: { services: [web] }");
    let route = json!({"kind": "TraefikService", "metadata": {"name": "web"}, "spec": {"weighted": {"services": [
        {"name": "web", "port": 80, "weight": 300}, {"name": "docs", "port": 80, "weight": 100},
    ]}}});
    let extras = Extras { testers: None, mirror: Some(share("20%")) };
    let new = steered(&router, &pair(), &route, share("25%"), &extras, 1).expect("it is written");
    let services = &new["spec"]["weighted"]["services"];
    assert_eq!(services[0]["name"], "web-piton-mirror");
    assert_eq!(services[0]["kind"], "TraefikService");
    assert_eq!((&services[1]["name"], &services[2]["name"]), (&json!("web-canary"), &json!("docs")));
    for seen in [&route, &new] {
        let made = router.companions(&pair(), seen, &extras).remove(0);
        assert_eq!(made["metadata"]["name"], "web-piton-mirror");
        assert_eq!(
            made["spec"],
            json!({"mirroring": {"name": "web", "port": 80, "mirrors": [{"name": "web-canary", "percent": 20, "port": 80}]}})
        );
    }
    let gone = Extras { mirror: None, ..extras };
    assert_eq!(
        cleared(&router, &pair(), &steered(&router, &pair(), &new, share("25%"), &gone, 1).expect("it is written"))
            .expect("cleared"),
        route
    );
}

#[test]
fn an_ingress_of_ours_has_only_our_paths_and_the_controllers_annotations() {
    let Router::Nginx(nginx) = router("nginx: { ingresses: [web] }") else { panic!("another router") };
    let path =
        |path: &str, to: &str| json!({"path": path, "backend": {"service": {"name": to, "port": {"number": 80}}}});
    let stable = json!({"metadata": {"name": "web", "annotations": {
        "nginx.ingress.kubernetes.io/proxy-body-size": "8m",
        "cert-manager.io/cluster-issuer": "x",
    }}, "spec": {"ingressClassName": "nginx", "rules": [
        {"host": "a.example", "http": {"paths": [path("/", "web"), path("/docs", "docs")]}},
        {"host": "b.example", "http": {"paths": [path("/", "docs")]}},
    ]}});
    let extras = Extras {
        testers: serde_json::from_value(json!({"header": {"x-canary": "yes"}, "cookie": {"tester": "always"}})).ok(),
        mirror: None,
    };
    let ours = nginx.clone_of(&pair(), &stable, share("0.5%"), &extras).expect("it is made");
    assert_eq!(ours["metadata"]["name"], "web-piton");
    assert_eq!(
        ours["metadata"]["annotations"],
        json!({
            "nginx.ingress.kubernetes.io/proxy-body-size": "8m",
            "nginx.ingress.kubernetes.io/canary": "true",
            "nginx.ingress.kubernetes.io/canary-weight": "50",
            "nginx.ingress.kubernetes.io/canary-weight-total": "10000",
            "nginx.ingress.kubernetes.io/canary-by-header": "x-canary",
            "nginx.ingress.kubernetes.io/canary-by-header-value": "yes",
            "nginx.ingress.kubernetes.io/canary-by-cookie": "tester",
        })
    );
    assert_eq!(
        ours["spec"],
        json!({"rules": [{"host": "a.example", "http": {"paths": [path("/", "web-canary")]}}], "ingressClassName": "nginx"})
    );
    assert_eq!(nginx.share(&ours), share("0.5%"));
    let wrong = nginx.clone_of(&Pair { stable: "api".into(), ..pair() }, &stable, Share::NONE, &Extras::default());
    assert_eq!(
        wrong.expect_err("no path").to_string(),
        "no backend of it is the Service `api`; it sends to `web`, `docs`, `docs`"
    );
}

#[test]
fn routes_that_do_not_fit_are_told_in_a_sentence() {
    let gateway = router("gateway: { routes: [web], rules: [main] }");
    let cases = [
        (&gateway, json!({"spec": {"rules": [{"name": "x"}]}}), "it has no rule `main`"),
        (
            &gateway,
            json!({"spec": {"rules": [{"name": "main", "backendRefs": [{"name": "api"}, {"name": "docs"}]}]}}),
            "no backend of it is the Service `web`; it sends to `api`, `docs`",
        ),
        (
            &gateway,
            json!({"spec": {"rules": [{"name": "main", "backendRefs": []}]}}),
            "no backend of it is the Service `web`; there is no backend at `spec.rules[0].backendRefs`",
        ),
        (
            &gateway,
            json!({"spec": {"rules": [{"name": "main", "backendRefs": [{"name": "web", "weight": "x"}]}]}}),
            "the weight at `spec.rules[0].backendRefs` is \"x\", not a whole number",
        ),
        (
            &gateway,
            json!({"spec": {"rules": [{"name": "main", "backendRefs": [{"name": "web", "weight": 0}, {"name": "b"}]}]}}),
            "at `spec.rules[0].backendRefs` nothing is left for the stable Service and the canary: all weight is with other backends",
        ),
    ];
    for (router, route, sentence) in cases {
        let fault = steered(router, &pair(), &route, share("10%"), &Extras::default(), 1).expect_err(sentence);
        assert_eq!(fault.to_string(), sentence);
    }
}

#[test]
fn a_route_that_cannot_be_read_is_not_one_without_users() {
    let router = router("gateway: { routes: [web] }");
    let (_, route) = kinds().remove(0);
    let steered = steered(&router, &pair(), &route, share("10%"), &Extras::default(), 7).expect("it is written");
    let broken = |mut route: Value| {
        route["spec"]["rules"][0]["backendRefs"][0]["weight"] = json!("x");
        route
    };
    // We led people by it: nobody may be told that they are gone.
    let fault = share_for_sure(&router, &pair(), &broken(steered.clone())).expect_err("nobody knows");
    assert!(matches!(fault, Fault::NotAWeight { .. }), "{fault}");
    cleared_for_sure(&router, &pair(), &broken(steered.clone())).expect_err("nobody knows");
    // Nor where the record itself was spoilt.
    let mut spoilt = broken(steered.clone());
    spoilt["metadata"]["annotations"]["piton.dev/traffic"] = json!("{");
    share_for_sure(&router, &pair(), &spoilt).expect_err("nobody knows");
    // We never did: it is no business of ours.
    assert_eq!(share_for_sure(&router, &pair(), &broken(route.clone())), Ok(Share::NONE));
    assert_eq!(cleared_for_sure(&router, &pair(), &broken(route.clone())), Ok(broken(route)));
    // It leads elsewhere altogether; what we remember of it goes.
    let mut elsewhere = steered;
    elsewhere["spec"]["rules"][0]["backendRefs"] = json!([{"name": "else"}]);
    assert_eq!(share_for_sure(&router, &pair(), &elsewhere), Ok(Share::NONE));
    let clear = cleared_for_sure(&router, &pair(), &elsewhere).expect("there is nothing to clear");
    assert!(record::read(&elsewhere).is_some() && record::read(&clear).is_none(), "{clear}");
}

#[test]
fn users_leave_by_the_rules_that_are_there_whatever_they_are_called() {
    let gateway = json!({"metadata": {"name": "web"}, "spec": {"rules": [
        {"name": "main", "backendRefs": [{"name": "web", "port": 80}]},
        {"name": "api", "backendRefs": [{"name": "web", "port": 80}]},
        {"name": "docs", "backendRefs": [{"name": "docs", "port": 80}]},
    ]}});
    let istio = json!({"metadata": {"name": "web"}, "spec": {"http": [
        {"name": "main", "route": [{"destination": {"host": "web"}}]},
        {"name": "api", "route": [{"destination": {"host": "web"}}]},
        {"name": "docs", "route": [{"destination": {"host": "docs"}}]},
    ]}});
    let cases = [
        (router("gateway: { routes: [web], rules: [main, api] }"), gateway, "rules"),
        (router("istio: { virtual_services: [web], routes: [main, api] }"), istio, "http"),
    ];
    for (router, route, rules) in cases {
        let steered_to =
            |route: &Value, part: &str| steered(&router, &pair(), route, share(part), &Extras::default(), 7);
        let mut live = steered_to(&route, "10%").expect("it is written");
        // Somebody gives a rule another name, and it goes on sending users to the canary.
        live["spec"][rules][0]["name"] = json!("front");
        let mut renamed = route.clone();
        renamed["spec"][rules][0]["name"] = json!("front");
        assert_eq!(super::share_for_sure(&router, &pair(), &live), Ok(share("10%")));
        assert_eq!(steered_to(&live, "20%"), Err(Fault::NoRule { rule: "main".to_owned() }));
        let back = steered_to(&live, "0%").expect("users leave");
        assert_eq!(super::share_for_sure(&router, &pair(), &back), Ok(Share::NONE));
        assert_eq!(cleared_for_sure(&router, &pair(), &back), Ok(renamed.clone()));
        assert_eq!(cleared_for_sure(&router, &pair(), &live), Ok(renamed));
        // One is gone with its users.
        live["spec"][rules].as_array_mut().expect("a list").remove(0);
        assert_eq!(super::share_for_sure(&router, &pair(), &live), Ok(share("10%")));
        let clear = cleared_for_sure(&router, &pair(), &live).expect("the other is cleared");
        assert_eq!(clear["spec"][rules][0], route["spec"][rules][1]);
    }
}

#[test]
fn what_a_router_cannot_do_is_said_before() {
    let mirror = |text: &str| Extras { mirror: Some(share(text)), testers: None };
    let lacks = |yaml: &str, extras: &Extras| router(yaml).lacks(extras);
    assert_eq!(
        lacks("nginx: { ingresses: [web] }", &mirror("5%")).expect("a sentence"),
        "the router `nginx` cannot mirror requests; `gateway`, `istio` and `traefik` can"
    );
    assert_eq!(
        lacks("traefik: { services: [web] }", &mirror("0.5%")).expect("a sentence"),
        "the router `traefik` mirrors whole percents of the requests, not 0.5%"
    );
    assert_eq!(lacks("traefik: { services: [web] }", &mirror("5%")), None);
    assert_eq!(router("istio: { virtual_services: [a] }").unit_hundredths(), 100);
    assert_eq!(router("generic: { preset: alb, name: a }").unit_hundredths(), 100);
    assert_eq!(router("generic: { preset: smi, name: a }").unit_hundredths(), 1);
    assert_eq!(router("replicas").unit_hundredths(), 1);
}

#[test]
fn generic_routers_that_say_too_little_are_refused() {
    let refused = |yaml: &str| {
        let value: Value = serde_yaml::from_str(yaml).expect("it is YAML");
        serde_json::from_value::<Router>(value).expect_err(yaml).to_string()
    };
    let cases = [
        ("generic: { name: a }", "the key `api_version` is missing; give it, or a `preset`"),
        ("generic: { name: a, api_version: v1, kind: K }", "say where the weights are"),
        ("generic: { name: a, api_version: v1, kind: K, backends: [a.b] }", "the key `service` is missing"),
        ("generic: { name: a, preset: smi, canary_weight: a.b }", "take one out"),
        ("generic: { name: a, preset: smi, total: 0 }", "`total` is 0"),
        ("generic: { name: a, preset: smi, action: b }", "`action` is for `preset: alb`"),
        ("generic: { name: a, preset: smi, backends: ['a..b'] }", "is not a path"),
        ("generic: { name: a, preset: nginx }", "unknown variant `nginx`"),
    ];
    for (yaml, reason) in cases {
        assert!(refused(yaml).contains(reason), "{yaml}: {}", refused(yaml));
    }
}
