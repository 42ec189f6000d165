//! Judges whether requests are framed in the one way that nobody can read differently.

/// Follows the bytes of a connection from request to request, and finds the first one that another reader of the
/// same bytes, such as a proxy in front of us, might frame differently.
///
/// Stricter than RFC 9112 demands: lines end in CRLF and nothing else (§2.2), no line is folded (§5.2), a length
/// is given once and as digits (§6.3), a transfer coding is `chunked` alone and never beside a length (§6.1), and
/// chunks carry neither extensions nor trailers (§7.1). It looks at framing only; what the lines say is for the
/// HTTP library, which refuses what is wrong there.
#[derive(Debug, Default)]
pub(super) struct Screen {
    state: State,
    line: Line,
    /// Whether the next line of the head is its first.
    in_fields: bool,
    framing: Framing,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
}

/// What the head so far says of the body.
#[derive(Debug, Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    host: bool,
}

/// Where in a request the connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Between requests.
    Start,
    /// In the head of one.
    Head,
    /// In the body of one.
    Body,
}

/// What is wrong with the framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    BareLineFeed,
    BareCarriageReturn,
    EmptyRequestLine,
    FoldedLine,
    TwoLengths,
    BadLength,
    LengthAndCoding,
    BadCoding,
    TwoHosts,
    BadChunk,
    Trailers,
}

impl Screen {
    /// Takes the next bytes of the connection; at the first fault, says how many of them come before it.
    pub(super) fn check(&mut self, bytes: &[u8]) -> Result<(), (usize, Fault)> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.state {
                State::Body(left) => at += self.skip(left, rest.len(), State::Body, State::Head),
                State::ChunkData(left) => {
                    at += self.skip(left, rest.len(), State::ChunkData, State::ChunkEnd)
                }
                State::Head | State::ChunkSize | State::ChunkEnd | State::Trailers => {
                    if self.state == State::Head
                        && self.in_fields
                        && self.line.is_untouched()
                        && matches!(rest, [b' ' | b'\t', ..])
                    {
                        return Err((at, Fault::FoldedLine));
                    }
                    let taken = self
                        .line
                        .take(rest)
                        .map_err(|(before, fault)| (at + before, fault))?;
                    if self.line.complete {
                        // The line feed is left out, so that the line never ends for the library behind.
                        self.end_of_line().map_err(|fault| (at + taken - 1, fault))?;
                        self.line = Line::default();
                    }
                    at += taken;
                }
            }
        }
        Ok(())
    }

    /// Where the connection is after the bytes so far.
    pub(super) fn place(&self) -> Place {
        match self.state {
            State::Head if !self.in_fields && self.line.is_untouched() => Place::Start,
            State::Head => Place::Head,
            _ => Place::Body,
        }
    }

    /// Passes over `left` bytes of data, of which `here` are at hand.
    fn skip(&mut self, left: u64, here: usize, more: fn(u64) -> State, after: State) -> usize {
        let step = usize::try_from(left).unwrap_or(usize::MAX).min(here);
        let left = left - step as u64;
        self.state = if left == 0 { after } else { more(left) };
        step
    }

    fn end_of_line(&mut self) -> Result<(), Fault> {
        match self.state {
            State::Head if !self.in_fields && self.line.length == 0 => return Err(Fault::EmptyRequestLine),
            State::Head if !self.in_fields => self.in_fields = true,
            State::Head if self.line.length > 0 => self.field()?,
            State::Head => {
                let framing = std::mem::take(&mut self.framing);
                self.in_fields = false;
                self.state = match (framing.chunked, framing.length) {
                    (true, _) => State::ChunkSize,
                    (false, None | Some(0)) => State::Head,
                    (false, Some(length)) => State::Body(length),
                };
            }
            State::ChunkSize => {
                self.state = match self.line.whole().and_then(hexadecimal).ok_or(Fault::BadChunk)? {
                    0 => State::Trailers,
                    size => State::ChunkData(size),
                };
            }
            State::ChunkEnd if self.line.length == 0 => self.state = State::ChunkSize,
            State::ChunkEnd => return Err(Fault::BadChunk),
            State::Trailers if self.line.length == 0 => self.state = State::Head,
            State::Trailers => return Err(Fault::Trailers),
            State::Body(_) | State::ChunkData(_) => {}
        }
        Ok(())
    }

    /// Notes what a header line says of the framing.
    fn field(&mut self) -> Result<(), Fault> {
        let start = self.line.start();
        let Some(colon) = start.iter().position(|byte| *byte == b':') else {
            return Ok(());
        };
        let (name, value) = (&start[..colon], start[colon + 1..].trim_ascii());
        let framing = &mut self.framing;
        if name.eq_ignore_ascii_case(b"content-length") {
            if framing.length.is_some() {
                return Err(Fault::TwoLengths);
            }
            if framing.chunked {
                return Err(Fault::LengthAndCoding);
            }
            let whole = self.line.whole().is_some();
            framing.length = Some(decimal(value).filter(|_| whole).ok_or(Fault::BadLength)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if framing.length.is_some() {
                return Err(Fault::LengthAndCoding);
            }
            if framing.chunked || self.line.whole().is_none() || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::BadCoding);
            }
            framing.chunked = true;
        } else if name.eq_ignore_ascii_case(b"host") && std::mem::replace(&mut framing.host, true) {
            return Err(Fault::TwoHosts);
        }
        Ok(())
    }
}

impl Fault {
    /// The word for it in logs.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::BareLineFeed => "bare_line_feed",
            Self::BareCarriageReturn => "bare_carriage_return",
            Self::EmptyRequestLine => "empty_request_line",
            Self::FoldedLine => "folded_line",
            Self::TwoLengths => "two_lengths",
            Self::BadLength => "bad_length",
            Self::LengthAndCoding => "length_and_coding",
            Self::BadCoding => "bad_coding",
            Self::TwoHosts => "two_hosts",
            Self::BadChunk => "bad_chunk",
            Self::Trailers => "trailers",
        }
    }
}

/// A line that arrives in pieces, of which only the first bytes are kept.
#[derive(Debug)]
struct Line {
    kept: [u8; KEPT],
    length: usize,
    carriage_return: bool,
    complete: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            kept: [0; KEPT],
            length: 0,
            carriage_return: false,
            complete: false,
        }
    }
}

impl Line {
    /// Takes the bytes up to and with the end of the line, or all; says how many.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, (usize, Fault)> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let piece = &bytes[..end.unwrap_or(bytes.len())];
        if self.carriage_return && !piece.is_empty() {
            return Err((0, Fault::BareCarriageReturn));
        }
        let content = match piece.iter().position(|byte| *byte == b'\r') {
            Some(at) if at + 1 < piece.len() => return Err((at, Fault::BareCarriageReturn)),
            Some(at) => {
                self.carriage_return = true;
                &piece[..at]
            }
            None => piece,
        };
        if let Some(room) = self.kept.get_mut(self.length..) {
            let copied = room.len().min(content.len());
            room[..copied].copy_from_slice(&content[..copied]);
        }
        self.length = self.length.saturating_add(content.len());
        match end {
            Some(at) if !self.carriage_return => Err((at, Fault::BareLineFeed)),
            Some(at) => {
                self.complete = true;
                Ok(at + 1)
            }
            None => Ok(piece.len()),
        }
    }

    fn start(&self) -> &[u8] {
        &self.kept[..self.length.min(KEPT)]
    }

    /// The line, when none of it was too far out to be kept.
    fn whole(&self) -> Option<&[u8]> {
        self.kept.get(..self.length)
    }

    fn is_untouched(&self) -> bool {
        self.length == 0 && !self.carriage_return
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    number(text, 10, 18)
}

fn hexadecimal(text: &[u8]) -> Option<u64> {
    number(text, 16, 15)
}

/// Digits alone, few enough that the number fits.
fn number(text: &[u8], radix: u32, most: usize) -> Option<u64> {
    if text.is_empty() || text.len() > most {
        return None;
    }
    text.iter().try_fold(0, |number: u64, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        Some(number * u64::from(radix) + u64::from(digit))
    })
}

/// Room for the longest name that matters with its value, `Transfer-Encoding: chunked`, and some blanks.
const KEPT: usize = 64;

#[cfg(test)]
mod tests;
