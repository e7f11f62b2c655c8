//! What single kinds of routers have of their own.

use super::*;

#[test]
fn services_without_weights_keep_the_same_part_each() {
    let router = router("generic: { preset: contour, name: web }");
    let route = json!({"metadata": {}, "spec": {"routes": [{"services": [{"name": "docs"}, {"name": "web"}, {"name": "old"}]}]}});
    for (wanted, stable, canary) in [("0%", 10_000, 0), ("25%", 7_500, 2_500), ("100%", 0, 10_000)] {
        let new = steered(&router, &pair(), &route, share(wanted), &Extras::default(), 1).expect("it is written");
        let services = new["spec"]["routes"][0]["services"].as_array().expect("a list").clone();
        let weight = |name: &str| {
            let found = services.iter().find(|one| one["name"] == name);
            found.and_then(|one| one["weight"].as_u64()).unwrap_or(0)
        };
        assert_eq!((weight("docs"), weight("old")), (10_000, 10_000), "{wanted}: a third each, as before");
        assert_eq!((weight("web"), weight("web-canary")), (stable, canary), "{wanted}");
        let again = steered(&router, &pair(), &new, share("50%"), &Extras::default(), 1).expect("it is written");
        assert_eq!(again["spec"]["routes"][0]["services"][1]["weight"], 5_000);
        assert_eq!(cleared(&router, &pair(), &again).expect("cleared"), route);
    }
    // Where one has a weight, those without one get nobody, and that stays so.
    let mixed = json!({"spec": {"routes": [{"services": [{"name": "docs"}, {"name": "web", "weight": 4}]}]}});
    let new = steered(&router, &pair(), &mixed, share("50%"), &Extras::default(), 1).expect("it is written");
    assert_eq!(new["spec"]["routes"][0]["services"][0], json!({"name": "docs"}));
}

#[test]
fn istio_testers_ask_for_what_all_ask_for() {
    let router = router("istio: { virtual_services: [web] }");
    let route = json!({"kind": "VirtualService", "metadata": {"name": "web"}, "spec": {"http": [
        {"name": "docs", "match": [{"uri": {"prefix": "/docs"}}], "route": [{"destination": {"host": "docs"}}]},
        {
            "match": [{"uri": {"prefix": "/pay"}, "headers": {"x-shop": {"exact": "a"}}}, {"uri": {"exact": "/"}}],
            "rewrite": {"uri": "/"}, "timeout": "3s", "corsPolicy": {"maxAge": "1h"},
            "mirror": {"host": "audit"}, "mirrorPercentage": {"value": 100.0},
            "route": [{"destination": {"host": "web", "port": {"number": 80}}, "headers": {"request": {"set": {"a": "b"}}}}],
        },
    ]}});
    let extras = Extras { testers: serde_json::from_value(json!({"header": {"x-canary": "yes"}})).ok(), mirror: None };
    let new = steered(&router, &pair(), &route, share("10%"), &extras, 1).expect("it is written");
    let http = new["spec"]["http"].as_array().expect("routes");
    assert_eq!(http.len(), 3);
    assert_eq!(http[0], route["spec"]["http"][0], "what goes elsewhere goes there for testers too");
    let tester = json!({"exact": "yes"});
    assert_eq!(
        http[1],
        json!({
            "name": "piton-testers-1",
            "match": [
                {"uri": {"prefix": "/pay"}, "headers": {"x-shop": {"exact": "a"}, "x-canary": tester}},
                {"uri": {"exact": "/"}, "headers": {"x-canary": tester}},
            ],
            "rewrite": {"uri": "/"}, "timeout": "3s", "corsPolicy": {"maxAge": "1h"},
            "route": [{
                "destination": {"host": "web-canary.hub.svc.cluster.local", "port": {"number": 80}},
                "headers": {"request": {"set": {"a": "b"}}},
            }],
        })
    );
    assert_eq!(http[2]["mirror"], json!({"host": "audit"}), "a mirror that is not ours stays");
    assert_eq!(cleared(&router, &pair(), &new).expect("cleared"), route);
}

#[test]
fn testers_of_a_grpc_route_have_its_methods_and_time_limits() {
    let router = router("gateway: { routes: [web], kind: GRPCRoute }");
    let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GRPCRoute", "metadata": {"name": "web"},
    "spec": {"parentRefs": [{"name": "front"}], "rules": [{
        "matches": [{"method": {"service": "shop.Cart"}, "headers": [{"name": "x-shop", "value": "a"}]}],
        "sessionPersistence": {"sessionName": "cart"},
        "filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "audit"}}}],
        "backendRefs": [{"name": "web", "port": 80}],
    }]}});
    let testers = serde_json::from_value(json!({"header": {"x-canary": "yes"}})).expect("testers");
    let made = router.companions(&pair(), &route, &testers).remove(0);
    assert_eq!(made["kind"], "GRPCRoute");
    assert_eq!(
        made["spec"]["rules"],
        json!([{
            "matches": [{"method": {"service": "shop.Cart"}, "headers": [
                {"name": "x-shop", "value": "a"}, {"type": "Exact", "name": "x-canary", "value": "yes"},
            ]}],
            "sessionPersistence": {"sessionName": "cart"},
            "backendRefs": [{"name": "web-canary", "port": 80, "weight": 1}],
        }])
    );
}

#[test]
fn a_mirror_without_its_fraction_copies_everything() {
    let Router::Gateway(gateway) = router("gateway: { routes: [web] }") else { panic!("another router") };
    let (router, route) = kinds().remove(0);
    let extras = Extras { testers: None, mirror: Some(share("10%")) };
    let mut new = steered(&router, &pair(), &route, Share::NONE, &extras, 1).expect("it is written");
    assert!(!gateway.mirrors_all(&pair(), &new));
    let mirror = &mut new["spec"]["rules"][0]["filters"][0]["requestMirror"];
    mirror.as_object_mut().expect("a mirror").shift_remove("fraction");
    assert!(gateway.mirrors_all(&pair(), &new));
    assert!(!gateway.mirrors_all(&pair(), &route), "a route without a mirror of ours");
}

#[test]
fn keys_in_annotations_keep_the_case_that_they_have() {
    let router = router("generic: { preset: alb, name: web }");
    let action = json!({"Type": "forward", "ForwardConfig": {"TargetGroups": [
        {"ServiceName": "docs", "ServicePort": "80", "Weight": 30}, {"ServiceName": "web", "ServicePort": "80", "Weight": 70},
    ]}});
    let name = "alb.ingress.kubernetes.io/actions.web";
    let route = json!({"kind": "Ingress", "metadata": {"name": "web", "annotations": {name: action.to_string()}}});
    let new = steered(&router, &pair(), &route, share("50%"), &Extras::default(), 1).expect("it is written");
    let text = new["metadata"]["annotations"][name].as_str().expect("text");
    assert_eq!(
        serde_json::from_str::<Value>(text).expect("JSON"),
        json!({"Type": "forward", "ForwardConfig": {"TargetGroups": [
            {"ServiceName": "docs", "ServicePort": "80", "Weight": 30},
            {"ServiceName": "web", "ServicePort": "80", "Weight": 35},
            {"ServiceName": "web-canary", "ServicePort": "80", "Weight": 35},
        ]}})
    );
}
