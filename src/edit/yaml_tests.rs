use super::tests::{changes, reads, refuses};

#[test]
fn every_other_byte_stays() {
    for (text, path, to, wanted) in [
        // where the value stands
        ("tag: 1.2.3\n", "tag", "1.2.4", "tag: 1.2.4\n"),
        ("a:\n  b:\n    c: x\n", "a.b.c", "w", "a:\n  b:\n    c: w\n"),
        ("a: {b: {c: x, d: z}}\n", "a.b.c", "w", "a: {b: {c: w, d: z}}\n"),
        ("l:\n- x\n- y\n", "l[1]", "z", "l:\n- x\n- z\n"),
        ("l:\n  -   x   # one\n  - y\n", "l[0]", "zz", "l:\n  -   zz   # one\n  - y\n"),
        ("l: [x, \"y\", z]\n", "l[1]", "w", "l: [x, \"w\", z]\n"),
        ("l:\n  [\n    x, # one\n    y,\n  ]\n", "l[1]", "w", "l:\n  [\n    x, # one\n    w,\n  ]\n"),
        (
            "dependencies:\n  - name: binderhub\n    version: 1.0.0-0.dev.git.3983.h383374de\n    repository: x\n  - name: traefik\n    version: 41.1.1\n",
            "dependencies[name=traefik].version",
            "41.1.2",
            "dependencies:\n  - name: binderhub\n    version: 1.0.0-0.dev.git.3983.h383374de\n    repository: x\n  - name: traefik\n    version: 41.1.2\n",
        ),
        (
            "images:\n- newTag: 1.0\n  name: r:5000/a\n",
            "images[name=r:5000/a].newTag",
            "1.1",
            "images:\n- newTag: 1.1\n  name: r:5000/a\n",
        ),
        ("a:\n  \"key.with/dots\": x\n", "a[\"key.with/dots\"]", "w", "a:\n  \"key.with/dots\": w\n"),
        ("'a b' : x\n", "a b", "w", "'a b' : w\n"),
        ("? tag\n: x\n", "tag", "w", "? tag\n: w\n"),
        ("8080: x\n", "8080", "w", "8080: w\n"),
        ("- - x\n  - y\n", "[0][1]", "z", "- - x\n  - z\n"),
        // the same text elsewhere
        (
            "a: 1.2.3\n# 1.2.3\nb: 1.2.3 # 1.2.3\nc: 1.2.3\n",
            "b",
            "1.2.4",
            "a: 1.2.3\n# 1.2.3\nb: 1.2.4 # 1.2.3\nc: 1.2.3\n",
        ),
        ("tag: tag\n", "tag", "gat", "tag: gat\n"),
        ("a: |\n  tag: 1\ntag: x1\n", "tag", "x2", "a: |\n  tag: 1\ntag: x2\n"),
        // quotes
        ("v: \"1.9\"\n", "v", "1.10", "v: \"1.10\"\n"),
        ("v: '1.9'  # c\n", "v", "1.10", "v: '1.10'  # c\n"),
        ("v: 'a'\n", "v", "it's", "v: 'it''s'\n"),
        ("v: \"a\"\n", "v", "say \"x\" \\", "v: \"say \\\"x\\\" \\\\\"\n"),
        ("v: v1.9\n", "v", "1.10", "v: \"1.10\"\n"),
        ("v: 1.9.0\n", "v", "1.10", "v: \"1.10\"\n"),
        ("v: abc123\n", "v", "12e3456", "v: \"12e3456\"\n"),
        ("v: abc123\n", "v", "1234567", "v: \"1234567\"\n"),
        ("v: abc\n", "v", "no", "v: \"no\"\n"),
        ("v: abc\n", "v", "~", "v: \"~\"\n"),
        ("v: abc\n", "v", "1:30", "v: \"1:30\"\n"),
        ("v: abc\n", "v", "2024-01-02", "v: \"2024-01-02\"\n"),
        ("v: abc\n", "v", "<<", "v: \"<<\"\n"),
        ("v: abc\n", "v", "a: b", "v: \"a: b\"\n"),
        ("v: abc\n", "v", "a #b", "v: \"a #b\"\n"),
        ("v: abc\n", "v", "*x", "v: \"*x\"\n"),
        ("v: abc\n", "v", "- x", "v: \"- x\"\n"),
        ("v: abc\n", "v", "a, b", "v: a, b\n"),
        ("v: {a: abc}\n", "v.a", "a, b", "v: {a: \"a, b\"}\n"),
        ("v: abc\n", "v", "jupyterhub-singleuser --ip 0.0.0.0", "v: jupyterhub-singleuser --ip 0.0.0.0\n"),
        ("v: !!str 1.9\n", "v", "1.10", "v: !!str 1.10\n"),
        ("v: \"a\\tb\"\n", "v", "c", "v: \"c\"\n"),
        // numbers, switches and times stay what they were
        ("quota: 300\n", "quota", "500", "quota: 500\n"),
        ("quota: 300 # was 100\n", "quota", "1.5", "quota: 1.5 # was 100\n"),
        ("quota: 300\n", "quota", "300GB", "quota: 300GB\n"),
        ("v: 1.9\n", "v", "2.0", "v: 2.0\n"),
        ("v: 3.9\n", "v", "3.10", "v: \"3.10\"\n"),
        ("v: 1.20\n", "v", "1.30", "v: 1.30\n"),
        ("mode: 0644\n", "mode", "0755", "mode: 0755\n"),
        ("v: 1234567\n", "v", "12e3456", "v: \"12e3456\"\n"),
        ("v: 1234567\n", "v", "0123456", "v: \"0123456\"\n"),
        ("on: true\n", "on", "false", "on: false\n"),
        ("on: yes\n", "on", "no", "on: no\n"),
        ("on: true\n", "on", "auto", "on: auto\n"),
        ("on: true\n", "on", "1", "on: \"1\"\n"),
        ("tag: 2021-05-10\n", "tag", "2021-06-01", "tag: 2021-06-01\n"),
        ("w: 50\n", "w", "0", "w: 0\n"),
        ("w: {a: 50}\n", "w.a", "-1", "w: {a: -1}\n"),
        // nothing there yet
        ("tag:\n", "tag", "1.2.3", "tag: 1.2.3\n"),
        ("tag:   # set by chartpress\n", "tag", "1.2", "tag: \"1.2\"   # set by chartpress\n"),
        ("tag: ~\n", "tag", "x", "tag: x\n"),
        ("tag: ~\n", "tag", "~", "tag: \"~\"\n"),
        ("tag:\n", "tag", "~", "tag: \"~\"\n"),
        ("on:\n", "on", "false", "on: false\n"),
        ("tag: null # c\n", "tag", "x", "tag: x # c\n"),
        ("tag: \"\"\n", "tag", "1.2", "tag: \"1.2\"\n"),
        ("{tag: , b: c}\n", "tag", "x", "{tag: x , b: c}\n"),
        ("a:\n  tag:\n  b: c\n", "a.tag", "x", "a:\n  tag: x\n  b: c\n"),
        ("tag:", "tag", "x", "tag: x"),
        // line ends, marks, odd bytes
        ("a: 1\r\ntag: x\r\nb: 2\r\n", "tag", "w", "a: 1\r\ntag: w\r\nb: 2\r\n"),
        ("a: 1\r\ntag:\r\nb: 2\r\n", "tag", "w", "a: 1\r\ntag: w\r\nb: 2\r\n"),
        ("tag: x", "tag", "w", "tag: w"),
        ("tag: x   ", "tag", "w", "tag: w   "),
        ("\u{feff}a: ü\ntag: x\n", "tag", "w", "\u{feff}a: ü\ntag: w\n"),
        ("\u{feff}tag: x\n", "tag", "w", "\u{feff}tag: w\n"),
        ("e: 😀 # 😀\ntag: x # ü\n", "tag", "ÿ", "e: 😀 # 😀\ntag: ÿ # ü\n"),
        ("\n\n# top\n\ntag: x\n\n\n", "tag", "w", "\n\n# top\n\ntag: w\n\n\n"),
        ("tag: x\t# tab\n", "tag", "w", "tag: w\t# tab\n"),
        ("%YAML 1.2\n---\ntag: x\n", "tag", "w", "%YAML 1.2\n---\ntag: w\n"),
        // documents
        ("---\na: 1\n---\ntag: x\n...\n", "tag", "w", "---\na: 1\n---\ntag: w\n...\n"),
        ("tag: x\n---\ntag: x\n", "#2:tag", "w", "tag: x\n---\ntag: w\n"),
        ("---\n---\ntag: x\n", "tag", "w", "---\n---\ntag: w\n"),
        // anchors
        ("a: &v 1.2.3\n", "a", "1.2.4", "a: &v 1.2.4\n"),
        ("a: &v 1\nb: *v\nc: x\n", "c", "w", "a: &v 1\nb: *v\nc: w\n"),
        ("base: &b {t: x}\np:\n  <<: *b\n  t: y\n", "p.t", "z", "base: &b {t: x}\np:\n  <<: *b\n  t: z\n"),
        // block scalars of one line
        ("i: >-\n  repo:1\nb: c\n", "i", "repo:2", "i: >-\n  repo:2\nb: c\n"),
        ("i: |\n    x\n\nb: c\n", "i", "1.10", "i: |\n    1.10\n\nb: c\n"),
        ("i: |+ # keep\n  x\n\n\nb: c\n", "i", "y # z", "i: |+ # keep\n  y # z\n\n\nb: c\n"),
        ("i: |\r\n  x\r\nb: c\r\n", "i", "w", "i: |\r\n  w\r\nb: c\r\n"),
        // text that only looks like a template
        ("a: \"{{ x }}\"\nrun: |\n  {{ y }}\ntag: x\n", "tag", "w", "a: \"{{ x }}\"\nrun: |\n  {{ y }}\ntag: w\n"),
        (
            "env:\n  A: ${{ secrets.A }}\n  V: v3.19.5\n",
            "env.V",
            "v3.19.6",
            "env:\n  A: ${{ secrets.A }}\n  V: v3.19.6\n",
        ),
    ] {
        changes("f.yaml", text, path, to, wanted);
    }
}

#[test]
fn what_is_not_safe_is_refused() {
    for (text, path, to, reason) in [
        ("a: &v 1\nb: *v\n", "b", "2", "is an alias (line 2)"),
        ("a: &v 1\nb: *v\n", "a", "2", "the alias on line 2"),
        ("a: &v {t: 1}\nb: *v\n", "b.t", "2", "`b` is an alias (line 2)"),
        ("a: &v {t: 1}\nb: *v\n", "a.t", "2", "the alias on line 2"),
        ("a: &v {t: 1}\nb:\n  <<: *v\n", "b.t", "2", "`t` comes into `b` by a merge key"),
        ("a: &v {t: 1}\nb: {t: 2}\nc:\n  <<: [*v]\n", "c.t", "2", "merge key"),
        ("a: 1\na: 2\n", "a", "3", "several times, on the lines 1 and 2"),
        ("{{- if .Values.x }}\na: 1\n{{- end }}\n", "a", "2", "template"),
        ("a: {{ .Values.x }}\nb: 1\n", "b", "2", "line 1 is template syntax"),
        ("a: \"{{ x }}\"\n", "a", "2", "a template: `{{ x }}`"),
        ("a: ${{ x }}\n", "a", "2", "a template"),
        ("? [x]\n: 1\nb: 1\n", "b", "2", "mapping or list as a key"),
        ("l:\n- {n: a, v: 1}\n- {n: a, v: 2}\n", "l[n=a].v", "3", "several items with n=a, on the lines 2 and 3"),
        ("l:\n- {n: aa, v: 1}\n", "l[n=ab].v", "3", "no item with n=ab; the nearest is `aa`"),
        ("l: [a]\n", "l[1]", "3", "`l` has 1 items, none numbered 1"),
        ("a: {version: 1}\n", "a.verison", "2", "`a` has no key `verison`; the nearest is `version`"),
        ("a: {b: 1}\n", "a.zzzzzz", "2", "`a` has no key `zzzzzz`"),
        ("b: 1\n", "a.c", "2", "the document has no key `a`"),
        ("a: 1\n", "a.c", "2", "`a` is a single value, not a mapping with a key `c`"),
        ("a: {b: 1}\n", "a[0]", "2", "`a` is a mapping, not a list"),
        ("a: {b: 1}\n", "a", "2", "the value is a mapping"),
        ("a: []\n", "a", "2", "the value is a list"),
        ("a: |\n  x\n  y\n", "a", "2", "several lines"),
        ("a: |\n  x\nb: 1\n", "a", " y", "blank at its start"),
        ("a: x\n  y\n", "a", "2", "several lines"),
        ("a: \"x\n  y\"\n", "a", "2", "several lines"),
        ("a: x\r  y\r", "a", "2", "several lines"),
        ("a: !vault x\n", "a", "2", "marked as `!vault`"),
        ("a: &x\nb: 1\n", "a", "2", "no safe place"),
        ("- \n- b\n", "[0]", "2", "no safe place"),
        ("a: 1\n---\na: 1\n", "a", "2", "in the documents 1 and 2"),
        ("a: 1\n---\na: 1\n", "#3:a", "2", "no document 3; the file has 2"),
        ("a: [1\n", "a", "2", "not valid YAML"),
        ("a: 1\n b: 2\n", "b", "2", "line 2"),
        ("", "a", "2", "the file is empty"),
        (" \n\n", "a", "2", "the file is empty"),
        ("# only\n", "a", "2", "the file is empty"),
        ("a: x\0y\n", "a", "2", "not UTF-8 text: byte 4 is 0x00"),
    ] {
        refuses("f.yaml", text, path, to, reason);
    }
    let deep = format!("a: {}", "[".repeat(100_000));
    refuses("f.yaml", &deep, "a", "2", "");
    let deep = format!("a: {}{}", "[".repeat(600), "]".repeat(600));
    refuses("f.yaml", &deep, "b", "2", "");
}

#[test]
fn reading_follows_aliases_and_merges() {
    for (text, path, wanted) in [
        ("a: 1.10\n", "a", Some("1.10")),
        ("a: '1.10'\n", "a", Some("1.10")),
        ("a: &v 1\nb: *v\n", "b", Some("1")),
        ("a: &v {t: 1}\nb: *v\n", "b.t", Some("1")),
        ("a: &v {t: 1}\nb:\n  <<: *v\n", "b.t", Some("1")),
        ("x: &x {t: 1}\na: &v\n  <<: *x\nb:\n  <<: [*v]\n", "b.t", Some("1")),
        ("a: >-\n  r:1\n", "a", Some("r:1")),
        ("a: |\n  x\n", "a", Some("x")),
        ("a:\n", "a", None),
        ("a: ''\n", "a", None),
        ("a: ~\n", "a.b.c", None),
        ("a: x\n", "a.b", None),
        ("a: x\n", "b", None),
        ("a: [x]\n", "a[4]", None),
        ("", "a", None),
    ] {
        reads("f.yaml", text, path, wanted);
    }
}
