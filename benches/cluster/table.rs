//! The figures, for people.

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::{
    scale::{Load, Sample},
    story::Measured,
};

/// Seconds from the change until it is over for users, and until the tool says so.
pub fn stories(measured: &[Measured]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "tool",
        "program starts",
        "first version up",
        "good change done (told)",
        "crash loop: restored (told; visible)",
        "image-pull failure",
        "never ready",
        "back on command (told)",
        "API requests, good change",
    ]);
    for one in measured {
        let bad = |what: &str| {
            let found = one.changes.iter().find(|change| change.what == what);
            found.map_or("–".to_owned(), |change| {
                let visible = change.visible.map_or(String::new(), |at| format!("; {at:.1}"));
                format!("{:.1} s ({:.1}{visible})", change.settled, change.told)
            })
        };
        let goods = one.changes.iter().filter(|change| change.what == "good");
        let goods: Vec<[f64; 2]> = goods.map(|change| [change.settled, change.told]).collect();
        table.add_row([
            one.tool.to_owned(),
            one.startup.map_or("–".to_owned(), |seconds| format!("{:.0} ms", seconds * 1e3)),
            format!("{:.1} s", one.started),
            middle(&goods),
            bad("crash loop"),
            bad("image-pull failure"),
            bad("never ready"),
            middle(&one.backs),
            one.own_requests.to_string(),
        ]);
    }
    table
}

/// The middle of several tries, by when users had what they should.
fn middle(tries: &[[f64; 2]]) -> String {
    let mut tries = tries.to_vec();
    tries.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let Some([settled, told]) = tries.get(tries.len() / 2) else { return "–".to_owned() };
    format!("{settled:.1} s ({told:.1})")
}

/// What controllers take.
pub fn loads(loads: &[Load]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let said = ["CPU of a core", "memory", "threads", "API requests", "pushes and looks of git"];
    let both = ["idle", "in flight"].iter().flat_map(|when| said.iter().map(move |what| format!("{when}: {what}")));
    let first = ["controller", "promotions", "ready after", "all in flight after"].map(str::to_owned);
    table.set_header(first.into_iter().chain(both));
    for load in loads {
        let seconds = |time: f64| format!("{time:.1} s");
        let mut row = vec![load.tool.to_owned(), load.promotions.to_string()];
        row.push(load.ready_in.map_or("–".to_owned(), seconds));
        row.push(format!("{:.0} s", load.reached_in));
        row.extend([&load.idle, &load.in_flight].into_iter().flat_map(sample));
        table.add_row(row);
    }
    table
}

fn sample(sample: &Sample) -> [String; 5] {
    let children = match sample.children_percent {
        none if none < 0.05 => String::new(),
        some => format!(", of it programs {some:.1}"),
    };
    [
        format!("{:.1} %{children}", sample.cpu_percent),
        format!("{:.0} MiB", sample.resident_mib),
        sample.threads.to_string(),
        format!("{:.1} /s", sample.requests_per_second),
        format!("{:.1} + {:.1} /s", sample.pushes_per_second, sample.looks_per_second),
    ]
}

/// What it was measured on.
pub fn machine() -> Value {
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    json!({ "cpus": cpus, "memory": meminfo.lines().next(), "load": load.trim() })
}

/// How piton was built.
pub fn build() -> &'static str {
    if cfg!(debug_assertions) { "not optimized" } else { "release" }
}
