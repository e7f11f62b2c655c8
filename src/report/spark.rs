use super::{GateLine, Look, Mark};

/// The looks of a gate as one line of signs, with `|` where a new step begins; at most `width` signs, each the worst of
/// the looks it stands for.
pub fn sparkline(gate: &GateLine, width: usize) -> String {
    let per_sign = gate.looks.len().div_ceil(width.max(1)).max(1);
    let mut line = String::new();
    let mut last = None;
    for looks in gate.looks.chunk_by(|a, b| a.step == b.step).flat_map(|step| step.chunks(per_sign)) {
        let step = looks.first().map(|look| look.step);
        if last.is_some() && last != step {
            line.push('|');
        }
        last = step;
        line.push(worst(looks).sign());
    }
    line
}

fn worst(looks: &[Look]) -> Mark {
    looks.iter().map(|look| look.mark).max().unwrap_or(Mark::Undecided)
}
