//! What CI systems read: commands on the output, files of outputs.

/// Why a text cannot be given to a CI runner safely.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CiError {
    #[error("{name:?} cannot be the name of a step output")]
    Name { name: String },
    #[error("the delimiter is not random enough: {length} of {DELIMITER_LENGTH_MIN} letters or digits")]
    Weak { length: usize },
    #[error("the text holds its own delimiter")]
    Delimiter,
}

/// How loud an annotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loudness {
    Error,
    Warning,
    Notice,
}

/// Where an annotation stands and what it is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heading<'a> {
    pub file: Option<&'a str>,
    pub line: Option<usize>,
    pub column: Option<usize>,
    pub title: Option<&'a str>,
}

/// A line that a GitHub runner shows beside the code: `::error file=…,line=…,title=…::message`.
pub fn annotation(loudness: Loudness, heading: Heading<'_>, message: &str) -> String {
    let name = match loudness {
        Loudness::Error => "error",
        Loudness::Warning => "warning",
        Loudness::Notice => "notice",
    };
    let number = |n: Option<usize>| n.map(|n| n.to_string());
    let properties = [
        ("file", heading.file.map(str::to_owned)),
        ("line", number(heading.line)),
        ("col", number(heading.column)),
        ("title", heading.title.map(str::to_owned)),
    ];
    let properties: Vec<String> =
        properties.into_iter().filter_map(|(key, text)| Some(format!("{key}={}", escaped_property(&text?)))).collect();
    let gap = if properties.is_empty() { "" } else { " " };
    format!("::{name}{gap}{}::{}\n", properties.join(","), escaped(message))
}

/// `%`, CR and LF end or change a command.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// In properties `:` and `,` as well.
fn escaped_property(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace(',', "%2C")
}

/// Shorter ones could be guessed by whoever writes the text.
const DELIMITER_LENGTH_MIN: usize = 16;

/// What is appended to `$GITHUB_OUTPUT`: a value of any number of lines between random delimiters.
pub fn output(name: &str, value: &str, delimiter: &str) -> Result<String, CiError> {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let ok = name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit() || c == '-');
    if !ok {
        return Err(CiError::Name { name: name.to_owned() });
    }
    check_delimiter(delimiter, value)?;
    Ok(format!("{name}<<{delimiter}\n{value}\n{delimiter}\n"))
}

/// Text of others, printed in such a way that a GitHub runner takes no commands from it.
pub fn stop_commands(token: &str, text: &str) -> Result<String, CiError> {
    check_delimiter(token, text)?;
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    Ok(format!("::stop-commands::{token}\n{text}{gap}::{token}::\n"))
}

fn check_delimiter(delimiter: &str, text: &str) -> Result<(), CiError> {
    let random = delimiter.chars().filter(char::is_ascii_alphanumeric).count();
    if random < DELIMITER_LENGTH_MIN || random != delimiter.chars().count() {
        return Err(CiError::Weak { length: random });
    }
    match text.contains(delimiter) {
        true => Err(CiError::Delimiter),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_escaped() {
        let heading = Heading { file: Some("a,b:c.yaml"), line: Some(3), column: Some(7), title: Some("100%, really") };
        assert_eq!(
            annotation(Loudness::Error, heading, "one: two,\r\nthree 5% ::set-output name=x::y"),
            "::error file=a%2Cb%3Ac.yaml,line=3,col=7,title=100%25%2C really::one: two,%0D%0Athree 5%25 ::set-output name=x::y\n"
        );
        assert_eq!(annotation(Loudness::Notice, Heading::default(), "hello"), "::notice::hello\n");
    }

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn outputs_of_many_lines_cannot_break_out() {
        assert_eq!(output("why", "a\nb=c", TOKEN), Ok(format!("why<<{TOKEN}\na\nb=c\n{TOKEN}\n")));
        assert_eq!(output("why", &format!("a\n{TOKEN}\nevil=1"), TOKEN), Err(CiError::Delimiter));
        assert_eq!(output("why", "a", "EOF"), Err(CiError::Weak { length: 3 }));
        for name in ["", "a=b", "a\nb", "1a", "a<<b"] {
            assert_eq!(output(name, "x", TOKEN), Err(CiError::Name { name: name.to_owned() }));
        }
    }

    #[test]
    fn text_of_others_is_fenced() {
        let fenced = stop_commands(TOKEN, "::set-output name=decision::promoted").expect("the token is not in it");
        assert_eq!(fenced, format!("::stop-commands::{TOKEN}\n::set-output name=decision::promoted\n::{TOKEN}::\n"));
        assert_eq!(stop_commands(TOKEN, &format!("::{TOKEN}::\n::error::x")), Err(CiError::Delimiter));
        assert_eq!(stop_commands(TOKEN, ""), Ok(format!("::stop-commands::{TOKEN}\n::{TOKEN}::\n")));
    }
}
