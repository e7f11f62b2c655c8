//! Who may say that a repository has news: signatures of GitHub, GitLab, Gitea, Forgejo, Bitbucket and Standard
//! Webhooks. A webhook is only ever a hint to look: nothing in it is believed.

use axum::http::HeaderMap;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ring::hmac;

use crate::clients::http::Secret;

/// How old, or how far ahead, a signed time may be.
const WINDOW_SECONDS: i64 = 300;
/// How keys of Standard Webhooks begin.
const KEY_START: &str = "whsec_";
/// Headers that name a delivery.
const DELIVERY_HEADERS: [&str; 6] = [
    "webhook-id",
    "x-github-delivery",
    "x-forgejo-delivery",
    "x-gitea-delivery",
    "x-gitlab-event-uuid",
    "x-request-uuid",
];

/// Whether one of the secrets has signed the body, by any of the schemes that the headers show.
pub fn is_signed(headers: &HeaderMap, body: &[u8], secrets: &[Secret], now_seconds: i64) -> bool {
    secrets.iter().map(Secret::reveal).filter(|secret| !secret.is_empty()).any(|secret| {
        let prefixed = |name: &str| text(headers, name).and_then(|value| value.strip_prefix("sha256="));
        let bare = |name: &str| text(headers, name);
        let hex = [
            prefixed("x-hub-signature-256"),
            // Bitbucket's; GitHub sends a SHA-1 there, which does not count.
            prefixed("x-hub-signature"),
            bare("x-forgejo-signature"),
            bare("x-gitea-signature"),
        ];
        hex.into_iter().flatten().any(|signature| is_hex_of(signature, secret.as_bytes(), body))
            || is_standard(headers, body, secret, now_seconds)
            || text(headers, "x-gitlab-token").is_some_and(|token| is_same(token, secret))
    })
}

/// What tells this delivery from others.
pub fn delivery(headers: &HeaderMap) -> Option<String> {
    DELIVERY_HEADERS.iter().find_map(|name| text(headers, name)).map(|id| id.chars().take(200).collect())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn is_hex_of(signature: &str, secret: &[u8], body: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    // The comparison takes the same time wherever they differ.
    bytes_of(signature).is_some_and(|bytes| hmac::verify(&key, body, &bytes).is_ok())
}

/// The bytes that hexadecimal digits stand for.
fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = hex.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
}

/// Standard Webhooks: one of the signatures, over the id, a time that is near, and the body.
fn is_standard(headers: &HeaderMap, body: &[u8], secret: &str, now_seconds: i64) -> bool {
    let Some(key) = secret.strip_prefix(KEY_START).and_then(|key| BASE64.decode(key).ok()) else {
        return false;
    };
    let (Some(id), Some(at), Some(signatures)) =
        (text(headers, "webhook-id"), text(headers, "webhook-timestamp"), text(headers, "webhook-signature"))
    else {
        return false;
    };
    let near = at.parse::<i64>().is_ok_and(|at| at.saturating_sub(now_seconds).saturating_abs() <= WINDOW_SECONDS);
    let signed = [id.as_bytes(), b".", at.as_bytes(), b".", body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let right = |signature: &str| {
        let bytes = signature.strip_prefix("v1,").and_then(|text| BASE64.decode(text).ok());
        bytes.is_some_and(|bytes| hmac::verify(&key, &signed, &bytes).is_ok())
    };
    near && signatures.split(' ').any(right)
}

/// Compares without telling how much was right.
fn is_same(given: &str, secret: &str) -> bool {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), b"the same?");
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, given.as_bytes()), b"the same?", tag.as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("it is a header's value"))
        };
        pairs.iter().map(header).collect()
    }

    fn hex(secret: &str, body: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hmac::sign(&key, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn githubs_own_example_is_taken_and_nothing_near_it() {
        let secrets = [Secret::of("an older one"), Secret::of("It's a Secret to Everybody")];
        let right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let signed = |signature: &str, body: &[u8]| {
            is_signed(&headers(&[("x-hub-signature-256", signature)]), body, &secrets, 0)
        };
        assert!(signed(right, b"Hello, World!"));
        assert!(!signed(right, b"Hello, World?"));
        assert!(!signed(&right[..60], b"Hello, World!"), "too short");
        assert!(!signed(&right[7..], b"Hello, World!"), "without its scheme");
        assert!(!signed("sha256=", b"Hello, World!") && !signed("", b""));
        let sha1 = headers(&[("x-hub-signature", "sha1=0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c")]);
        assert!(!is_signed(&sha1, b"Hello, World!", &secrets, 0), "SHA-1 does not count");
    }

    #[test]
    fn gitea_forgejo_bitbucket_and_gitlab_are_known() {
        let secrets = [Secret::of("s3cr3t")];
        let signature = hex("s3cr3t", b"{}");
        for name in ["x-gitea-signature", "x-forgejo-signature"] {
            assert!(is_signed(&headers(&[(name, &signature)]), b"{}", &secrets, 0), "{name}");
            assert!(!is_signed(&headers(&[(name, &hex("other", b"{}"))]), b"{}", &secrets, 0), "{name}");
        }
        assert!(is_signed(&headers(&[("x-hub-signature", &format!("sha256={signature}"))]), b"{}", &secrets, 0));
        assert!(is_signed(&headers(&[("x-gitlab-token", "s3cr3t")]), b"{}", &secrets, 0));
        assert!(!is_signed(&headers(&[("x-gitlab-token", "s3cr3")]), b"{}", &secrets, 0));
        assert!(!is_signed(&headers(&[("x-gitlab-token", "")]), b"{}", &[Secret::of("")], 0), "no secret, no entry");
        assert!(!is_signed(&headers(&[]), b"{}", &secrets, 0), "unsigned");
    }

    #[test]
    fn standard_webhooks_are_taken_while_they_are_fresh() {
        let raw = [7_u8; 32];
        let secrets = [Secret::of(format!("{KEY_START}{}", BASE64.encode(raw)))];
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &raw), b"msg_1.1000.{}");
        let signature = format!("v1,AAAA v1,{}", BASE64.encode(tag.as_ref()));
        let all = headers(&[("webhook-id", "msg_1"), ("webhook-timestamp", "1000"), ("webhook-signature", &signature)]);
        assert!(is_signed(&all, b"{}", &secrets, 1_200));
        assert!(!is_signed(&all, b"{}", &secrets, 1_301), "too old");
        assert!(!is_signed(&all, b"{}", &secrets, 699), "from the future");
        assert!(!is_signed(&all, b"{ }", &secrets, 1_000));
        assert_eq!(delivery(&all).as_deref(), Some("msg_1"));
    }
}
