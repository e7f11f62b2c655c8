use super::{
    answer::{Answer, Failure},
    voice::Voice,
};
use crate::{commands::Explain, pipeline, rack::AllKinds};

/// `piton explain`
pub fn run(args: &Explain, voice: &Voice) -> Result<Answer, Failure> {
    let all = AllKinds::known();
    let text = pipeline::explain(&all.kinds(), args.topic.as_deref(), args.kind.as_deref())
        .map_err(|e| Failure::usage(e.to_string()))?;
    voice.say(text.trim_end());
    Ok(Answer::done("explained").with("text", text))
}
