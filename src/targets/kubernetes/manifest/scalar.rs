//! What a plain YAML scalar means to Kubernetes: its own tools read YAML 1.1 with a few exceptions, so `yes` is true and `0755` is octal.

use serde_json::{Number, Value};

/// The value of a plain scalar; `Err`: a number that JSON does not have.
pub fn plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            return Ok(Value::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return Ok(Value::Bool(false));
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF" | ".nan" | ".NaN"
        | ".NAN" => {
            return Err(format!("{text} is no number that an object can have; in quotes it is text"));
        }
        _ => {}
    }
    // Only what begins like a number is one.
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Ok(Value::String(text.to_owned()));
    }
    let digits = text.replace('_', "");
    Ok(integer(&digits).or_else(|| float(&digits)).unwrap_or_else(|| Value::String(text.to_owned())))
}

fn integer(digits: &str) -> Option<Value> {
    let (negative, unsigned) = match digits.as_bytes().first()? {
        b'-' => (true, &digits[1..]),
        b'+' => (false, &digits[1..]),
        _ => (false, digits),
    };
    let lower = unsigned.to_ascii_lowercase();
    let (base, rest) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    // The parser of numbers would take a second sign.
    if rest.starts_with(['+', '-']) {
        return None;
    }
    match negative {
        true => i64::from_str_radix(&format!("-{rest}"), base).ok().map(Value::from),
        false => u64::from_str_radix(rest, base).ok().map(Value::from),
    }
}

fn float(digits: &str) -> Option<Value> {
    let mantissa = digits.trim_start_matches(['+', '-']);
    let one_sign = digits.len() - mantissa.len() <= 1;
    let is_one = mantissa.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && mantissa.chars().any(|c| c.is_ascii_digit())
        && mantissa.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    if !one_sign || !is_one {
        return None;
    }
    let number: f64 = digits.parse().ok().filter(|number: &f64| number.is_finite())?;
    Number::from_f64(number).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_mean_what_they_mean_to_kubectl() {
        let cases = [
            ("yes", json!(true)),
            ("off", json!(false)),
            ("~", json!(null)),
            ("12", json!(12)),
            ("-3", json!(-3)),
            ("0755", json!(493)),
            ("0o755", json!(493)),
            ("0x1F", json!(31)),
            ("1_000", json!(1000)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            (".5", json!(0.5)),
            // A short commit id that looks like a number beyond all bounds.
            ("12e3456", json!("12e3456")),
            ("0899", json!(899.0)),
            ("1.20.3", json!("1.20.3")),
            ("10Mi", json!("10Mi")),
            ("100m", json!("100m")),
            ("2026-01-01", json!("2026-01-01")),
            ("-", json!("-")),
            ("--5", json!("--5")),
            ("0x", json!("0x")),
            ("web", json!("web")),
        ];
        for (text, expected) in cases {
            assert_eq!(plain(text), Ok(expected), "{text}");
        }
        assert!(plain(".inf").is_err());
    }
}
