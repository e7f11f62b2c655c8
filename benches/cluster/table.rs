//! The figures, for people.

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::{
    scale::{Load, Sample},
    story::Measured,
};

/// Seconds from the change until it is over for users, and until the tool says so.
pub fn print(measured: &[Measured]) {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "tool",
        "first version up",
        "good change done (told)",
        "crash loop: restored (told; visible)",
        "image-pull failure",
        "never ready",
        "back on command (told)",
        "API requests, good change",
    ]);
    for one in measured {
        let change = |what: &str| {
            let found = one.changes.iter().find(|change| change.what == what);
            found.map_or("–".to_owned(), |change| {
                let visible = change.visible.map_or(String::new(), |at| format!("; {at:.1}"));
                format!("{:.1} s ({:.1}{visible})", change.settled, change.told)
            })
        };
        let back = one.back.map_or("–".to_owned(), |[settled, told]| format!("{settled:.1} s ({told:.1})"));
        table.add_row([
            one.tool.to_owned(),
            format!("{:.1} s", one.started),
            change("good"),
            change("crash loop"),
            change("image-pull failure"),
            change("never ready"),
            back,
            one.own_requests.to_string(),
        ]);
    }
    println!("{table}");
}

/// What controllers take.
pub fn print_loads(loads: &[Load]) {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "controller",
        "promotions",
        "idle: CPU, memory",
        "in flight: CPU, memory",
        "all in flight after",
    ]);
    let said = |sample: &Sample| format!("{:.1} % of a core, {:.0} MiB", sample.cpu_percent, sample.resident_mib);
    for load in loads {
        table.add_row([
            load.tool.to_owned(),
            load.promotions.to_string(),
            said(&load.idle),
            said(&load.in_flight),
            format!("{:.0} s", load.reached_in),
        ]);
    }
    println!("\n{table}");
}

/// What it was measured on.
pub fn machine() -> Value {
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    json!({ "cpus": cpus, "memory": meminfo.lines().next(), "load": load.trim() })
}
