use super::*;
use Order::{Auto, Count, Date, Pep440, Semver};
use StepSize::*;

fn version(text: &str) -> Version {
    Version::new(text).expect("a good version")
}

fn compared(order: Order, a: &str, b: &str) -> Option<Ordering> {
    compare(order, &version(a), &version(b))
}

#[test]
fn newer_and_by_how_much() {
    for (order, from, to, size) in [
        (Auto, "1.2.3", "1.2.3", Same),
        (Auto, "1.2.3", "1.2.4", Patch),
        (Auto, "1.2.9", "1.2.10", Patch),
        (Auto, "1.2.3", "1.3.0", Minor),
        (Auto, "1.9", "1.10", Minor),
        (Auto, "1.2.3", "2.0.0", Major),
        (Auto, "v1.20.2", "v1.20.3", Patch),
        (Auto, "v1.2.3", "1.2.3", Same),
        (Auto, "4.1", "4.1.0", Same),
        (Auto, "v4", "v5", Major),
        (Auto, "300", "500", Major),
        (Auto, "1.2.4", "1.2.3", Downgrade),
        (Auto, "41.1.1", "41.1.1.1", Patch),
        // chartpress, first and later forms
        (Auto, "0.9.0-n9.h1234abc", "0.9.0-n123.h0b4462c", Dev),
        (Auto, "0.2.0-n562.h0b4462c", "0.2.0-n561.hdeadbee", Downgrade),
        (Auto, "0.9.0", "0.9.0-n1.h1234abc", Dev),
        (Auto, "1.0.0-0.dev.git.3983.h383374de", "1.0.0-0.dev.git.3990.h00112233", Dev),
        (Auto, "1.0.0-0.dev.git.999.h383374de", "1.0.0-0.dev.git.3990.h00112233", Dev),
        (Auto, "4.1.6-0.dev.git.6899.h2c6a6a6", "4.1.6", Patch),
        (Auto, "4.1.5", "4.1.6-0.dev.git.6899.h2c6a6a6", Patch),
        (Auto, "4.0.0-beta.2", "4.0.0-beta.2.git.12.h2c6a6a6", Dev),
        (Auto, "4.0.0-beta.2.git.12.h2c6a6a6", "4.0.0-beta.3", Dev),
        (Auto, "0.1.0-441f5ea", "0.1.0-9f081a2", Opaque),
        (Auto, "0.1.0-441f5ea", "0.2.0-9f081a2", Minor),
        (Auto, "0.1.0-441f5ea", "0.1.0-4415123", Opaque),
        (Auto, "0.3.2-dev.267", "0.3.2-dev.268", Dev),
        // git describe and setuptools-scm
        (Auto, "2022.02.0-90.g0345a86", "2022.02.0-91.g1345a86", Dev),
        (Auto, "2022.02.0", "2022.02.0-90.g0345a86", Dev),
        (Auto, "2022.02.0-90.g0345a86", "2022.10.0", Minor),
        (Auto, "2025.12.1.dev39-g8ff237f9d", "2025.12.1.dev44-g97bb4e45a", Dev),
        (Auto, "2025.12.1.dev39-g8ff237f9d", "2025.12.1", Patch),
        (Auto, "2025.12.1.dev39-g8ff237f9d", "2025.12.1.dev39-g97bb4e45a", Opaque),
        // PEP 440
        (Auto, "1.0.dev1", "1.0a1", Dev),
        (Auto, "1.0a1", "1.0b1", Dev),
        (Auto, "1.0b2", "1.0rc1", Dev),
        (Auto, "1.0rc1", "1.0", Patch),
        (Auto, "1.0", "1.0.post1", Patch),
        (Auto, "1.0.post1", "1.0.1", Patch),
        (Auto, "1.0", "1!0.1", Major),
        (Pep440, "5.5.0", "5.5.1", Patch),
        (Pep440, "6.0.0b1", "6.0.0b2", Dev),
        (Pep440, "27.5.1-dind", "28.0.0-dind", Opaque),
        (Pep440, "latest", "1.0", Opaque),
        // SemVer
        (Semver, "1.0.0-alpha.1", "1.0.0-alpha.beta", Dev),
        (Semver, "1.0.0-rc.1", "1.0.0", Patch),
        (Semver, "1.0.0-0.dev.git.3983.h1", "1.0.0-0.dev.git.3990.h0", Dev),
        (Semver, "v4.1", "4.1.1", Patch),
        (Semver, "2022.02.0", "2022.10.0", Minor),
        (Semver, "1.0.0+a", "1.0.0+b", Opaque),
        (Semver, "1.0.0", "1.0.0-n1.habcd", Downgrade),
        (Semver, "441f5ea", "5.0.0", Opaque),
        (Semver, "1.0.0-007", "1.0.0-8", Dev),
        // variants of one image
        (Auto, "27.5.1-dind", "28.3.3-dind", Major),
        (Auto, "27.5.1-dind", "28.3.3", Opaque),
        (Auto, "3.12.1-slim", "3.12.2-alpine3.20", Opaque),
        (Auto, "3.12.1-alpine3.20", "3.12.1-alpine3.21", Patch),
        (Auto, "3.12.1-alpine3.9", "3.12.1-alpine3.21", Patch),
        (Auto, "3.12.1-alpine3.21", "3.12.2-alpine3.20", Patch),
        // dates
        (Auto, "2021-05-10", "2021-06-01", Dev),
        (Auto, "20210510", "20210511", Dev),
        (Auto, "2021-05-10", "1.2.3", Opaque),
        (Date, "nightly-2024-01-02", "nightly-2024-01-03", Dev),
        (Date, "2024.1.9", "2024.1.10", Dev),
        (Date, "20240102-1", "20240102-12", Dev),
        (Date, "20240102-abc", "20240102-def", Opaque),
        (Date, "2024-13-40", "2024-01-01", Opaque),
        (Date, "2024-01-03", "2024-01-02", Downgrade),
        // counters
        (Count, "1.0.0-0.dev.git.3983.h383374de", "2.0.0-0.dev.git.3990.h00112233", Dev),
        (Count, "2.0.0-0.dev.git.3983.h383374de", "1.0.0-0.dev.git.3990.h00112233", Dev),
        (Count, "0.2.0-n562.h0b4462c", "0.3.0-n1.h0b4462d", Dev),
        (Count, "build-9", "build-10", Dev),
        (Count, "build-9", "run-10", Opaque),
        (Count, "1.0.0-0.dev.git.1.h383374de", "0.2.0-n562.h0b4462c", Opaque),
        (Count, "1.2.3", "1.2.4", Opaque),
        // no order
        (Order::Opaque, "1.0", "1.1", Opaque),
        (Auto, "latest", "stable", Opaque),
        (Auto, "441f5ea", "9f081a2", Opaque),
        (Auto, "1234567", "2345678", Opaque),
        (Auto, "12a4567", "13a4567", Opaque),
        (Auto, "set-by-chartpress", "1.0", Opaque),
        (Auto, "99999999999999999999.1", "1", Opaque),
        (Auto, "sha256:aaaa", "sha256:bbbb", Opaque),
    ] {
        assert_eq!(step(order, &version(from), &version(to)), size, "{order:?}: {from} -> {to}");
        let back = step(order, &version(to), &version(from));
        let wanted = match size {
            Same | Opaque => vec![size],
            Downgrade => vec![Dev, Patch, Minor, Major],
            Dev | Patch | Minor | Major => vec![Downgrade],
        };
        assert!(wanted.contains(&back), "{order:?}: {to} -> {from} is {back:?}");
    }
}

#[test]
fn commits_are_found() {
    for (text, commit) in [
        ("0.1.0-441f5ea", Some("441f5ea")),
        ("0.2.0-n562.h0b4462c", Some("0b4462c")),
        ("1.0.0-0.dev.git.3983.h383374de", Some("383374de")),
        ("2022.02.0-90.g0345a86", Some("0345a86")),
        ("2025.12.1.dev39-g8ff237f9d", Some("8ff237f9d")),
        ("2025.12.1.dev39+g8ff237f9d", Some("8ff237f9d")),
        ("v1.2-3-gabcdef0-dirty", Some("abcdef0")),
        ("441f5ea", Some("441f5ea")),
        ("9f081a29f081a29f081a29f081a29f081a29f081", Some("9f081a29f081a29f081a29f081a29f081a29f081")),
        ("27.5.1-dind", None),
        ("1.2.3", None),
        ("1.2.3-20240102", None),
        ("1234567", None),
        ("latest", None),
        ("feature-deadbeef", None),
    ] {
        assert_eq!(commit_of(&version(text)), commit, "{text}");
    }
}

mod laws {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        let end = prop_oneof![
            Just(String::new()),
            "-n[0-9]{1,3}\\.h[0-9a-f]{7}",
            "-0\\.dev\\.git\\.[0-9]{1,3}\\.h[0-9a-f]{7}",
            "-[0-9]{1,2}\\.g[0-9a-f]{7}",
            "\\.dev[0-9]{1,2}(-g[0-9a-f]{7})?",
            "(a|b|rc)[0-3](\\.dev[0-3])?",
            "-(alpha|beta|rc)\\.[0-3](\\.git\\.[0-9]\\.h[0-9a-f]{7})?",
            "\\.post[0-3]",
            "-(dind|slim|alpine3\\.[0-9]{1,2})",
            "-[0-9a-f]{7}",
            "\\+[a-b]",
        ];
        let version = ("v?[0-2](\\.[0-2]){0,3}", end).prop_map(|(numbers, end)| format!("{numbers}{end}"));
        let date = "20[0-2][0-9](-0[1-9]-[0-2][1-8]|0[1-9][0-2][1-8])(-[0-9])?";
        prop_oneof![6 => version, 1 => date, 1 => "[0-9a-f]{7}", 1 => "[a-z]{1,4}-?[0-9]{0,2}", 1 => "[ -~]{1,8}"]
    }

    fn order() -> impl Strategy<Value = Order> {
        prop_oneof![Just(Auto), Just(Semver), Just(Pep440), Just(Count), Just(Date), Just(Order::Opaque)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

        #[test]
        fn turning_the_pair_turns_the_answer(order in order(), a in text(), b in text()) {
            prop_assert_eq!(compared(order, &a, &b), compared(order, &b, &a).map(Ordering::reverse));
            prop_assert_eq!(compared(order, &a, &a), Some(Ordering::Equal));
        }

        #[test]
        fn newer_than_newer_is_newer(order in order(), a in text(), b in text(), c in text()) {
            let mut three = [a, b, c];
            three.sort();
            for [x, y, z] in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                let (x, y, z) = (&three[x], &three[y], &three[z]);
                let both = (compared(order, x, y), compared(order, y, z));
                if let (Some(Ordering::Less), Some(Ordering::Less)) = both {
                    prop_assert_eq!(compared(order, x, z), Some(Ordering::Less), "{} < {} < {}", x, y, z);
                }
            }
        }

        #[test]
        fn texts_without_digits_have_no_order(order in order(), a in "[a-zA-Z-]{1,9}", b in "[a-zA-Z-]{1,9}") {
            prop_assume!(a != b);
            prop_assert_eq!(compared(order, &a, &b), None);
        }

        #[test]
        fn any_text_is_taken(order in order(), a in "\\PC{1,30}", b in "\\PC{1,30}") {
            let (a, b) = (version(&a), version(&b));
            step(order, &a, &b);
            commit_of(&a);
        }
    }
}
