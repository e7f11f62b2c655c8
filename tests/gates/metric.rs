use axum::{Router, http::StatusCode, routing::get};
use piton::model::{Arm, Saw, Span};
use serde_json::json;

use super::{assert_blind, look, nobody, serve};

const TEXT: &str = "# TYPE piton_requests counter\n\
    piton_requests_total{arm=\"candidate\",release=\"aaaaaaaaaa\",service=\"web\",class=\"ok\"} 40\n\
    piton_requests_total{arm=\"candidate\",release=\"aaaaaaaaaa\",service=\"web\",class=\"failed\"} 2\n\
    piton_requests_total{arm=\"stable\",release=\"bbbbbbbbbb\",service=\"web\",class=\"ok\"} 400\n# EOF\n";

async fn proxy(status: StatusCode, text: &'static str) -> String {
    serve(Router::new().route("/metrics", get(move || async move { (status, text) }))).await
}

#[tokio::test]
async fn counters_become_counts_of_both_arms() {
    let url = proxy(StatusCode::OK, TEXT).await;
    let saw = look("metric", json!({"errors": {"max": "2%"}}), &url, Span::seconds(20)).await;
    let Saw::Counts(counts) = saw else { panic!("{saw:?}") };
    let (candidate, stable) = (&counts.arms[&Arm::Candidate], &counts.arms[&Arm::Stable]);
    assert_eq!((candidate.ok, candidate.failed, stable.ok), (40, 2, 400));
}

#[tokio::test]
async fn no_numbers_are_never_good_ones() {
    let config = json!({"errors": {"max": "2%"}});
    let brief = Span::seconds(20);
    assert_blind(
        &look("metric", config.clone(), &nobody().await, brief).await,
        "cannot read the metrics: cannot connect",
    );
    for (status, text, says) in [
        (StatusCode::OK, "", "there is no `piton_requests_total` among 0 series"),
        (StatusCode::OK, "requests_total{arm=\"candidate\"} 5\n", "among 1 series"),
        (StatusCode::INTERNAL_SERVER_ERROR, TEXT, "status 500"),
        (StatusCode::OK, "\u{0}\u{1}<html>", "among 0 series"),
    ] {
        assert_blind(&look("metric", config.clone(), &proxy(status, text).await, brief).await, says);
    }
}
