//! Reads a TLS ClientHello as far as it tells whom the client means.

/// What a ClientHello (RFC 8446 §4.1.2, RFC 5246 §7.4.1.2) tells about its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The name in the extension `server_name`, as it was sent.
    pub server_name: Option<Vec<u8>>,
    /// Whether another hello is sealed in it: the extension `encrypted_client_hello` (RFC 9849), or the draft's.
    pub is_encrypted: bool,
}

/// How far a hello has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// More bytes are needed.
    Incomplete,
    /// All of it.
    Whole(Hello),
}

/// Why bytes are no ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// A record of another kind, or longer than one may be (RFC 8446 §5.1).
    #[error("a TLS record is not one of a handshake")]
    Record,
    /// A message that is no hello of a client.
    #[error("the first message is no hello of a client")]
    Message,
    /// A length that leads out of what it is the length of.
    #[error("a length leads beyond the end")]
    Length,
    /// An extension that comes twice, so that two readers might not mean the same one.
    #[error("an extension comes twice")]
    Twice,
    /// A list of server names that is not one name of a host (RFC 6066 §3).
    #[error("the list of server names is not one name of a host")]
    Names,
}

impl Hello {
    /// Reads `bytes`, everything that a client has sent so far. What follows the hello is not looked at.
    ///
    /// # Errors
    /// When this is no ClientHello, whatever else may come.
    pub fn read(bytes: &[u8]) -> Result<Reading, HelloError> {
        let mut message = Vec::new();
        let mut records = Reader(bytes);
        loop {
            if let Some(body) = body(&message)? {
                return Self::of(body).map(Reading::Whole);
            }
            let Some(part) = record(&mut records)? else {
                return Ok(Reading::Incomplete);
            };
            message.extend_from_slice(part);
        }
    }

    fn of(body: &[u8]) -> Result<Self, HelloError> {
        let mut body = Reader(body);
        // The version and the random number.
        body.take(34)?;
        // The session, the cipher suites, the compression methods.
        body.short_list()?;
        body.long_list()?;
        body.short_list()?;
        let mut hello = Self {
            server_name: None,
            is_encrypted: false,
        };
        if body.0.is_empty() {
            // A hello from before there were extensions.
            return Ok(hello);
        }
        let mut extensions = Reader(body.long_list()?);
        let mut seen = Vec::new();
        while !extensions.0.is_empty() {
            let kind = extensions.number()?;
            let content = extensions.long_list()?;
            if seen.contains(&kind) {
                return Err(HelloError::Twice);
            }
            seen.push(kind);
            match kind {
                SERVER_NAME => hello.server_name = Some(server_name(content)?.to_vec()),
                ENCRYPTED_HELLO | ENCRYPTED_NAME => hello.is_encrypted = true,
                _ => {}
            }
        }
        Ok(hello)
    }
}

/// The next record's content, once it is whole.
fn record<'b>(records: &mut Reader<'b>) -> Result<Option<&'b [u8]>, HelloError> {
    // The kind and the first byte of the version tell whether this is TLS before the rest has come.
    let is_handshake = match records.0 {
        [] => return Ok(None),
        [kind] => *kind == super::HANDSHAKE_RECORD,
        [kind, major, ..] => *kind == super::HANDSHAKE_RECORD && *major == 3,
    };
    if !is_handshake {
        return Err(HelloError::Record);
    }
    let &[_, _, _, high, low, ref rest @ ..] = records.0 else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    // An empty record of a handshake is forbidden (RFC 8446 §5.1).
    if length == 0 || length > MOST_IN_RECORD {
        return Err(HelloError::Record);
    }
    let Some(content) = rest.get(..length) else {
        return Ok(None);
    };
    records.0 = rest.get(length..).unwrap_or_default();
    Ok(Some(content))
}

/// The hello's body, once it is whole.
fn body(message: &[u8]) -> Result<Option<&[u8]>, HelloError> {
    match message {
        [] => Ok(None),
        [kind, ..] if *kind != CLIENT_HELLO => Err(HelloError::Message),
        &[_, high, middle, low, ref rest @ ..] => {
            let length = u32::from_be_bytes([0, high, middle, low]);
            let length = usize::try_from(length).map_err(|_| HelloError::Length)?;
            Ok(rest.get(..length))
        }
        _ => Ok(None),
    }
}

/// The only name of the list.
fn server_name(list: &[u8]) -> Result<&[u8], HelloError> {
    let mut outer = Reader(list);
    let mut names = Reader(outer.long_list()?);
    let kind = names.take(1)?;
    let name = names.long_list()?;
    if kind != [HOST_NAME] || name.is_empty() || !names.0.is_empty() || !outer.0.is_empty() {
        return Err(HelloError::Names);
    }
    Ok(name)
}

/// Takes bytes off the front.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], HelloError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(HelloError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16, HelloError> {
        match *self.take(2)? {
            [high, low] => Ok(u16::from_be_bytes([high, low])),
            _ => Err(HelloError::Length),
        }
    }

    /// Something whose length stands in front of it in one byte.
    fn short_list(&mut self) -> Result<&'b [u8], HelloError> {
        match *self.take(1)? {
            [length] => self.take(usize::from(length)),
            _ => Err(HelloError::Length),
        }
    }

    /// Something whose length stands in front of it in two bytes.
    fn long_list(&mut self) -> Result<&'b [u8], HelloError> {
        let length = self.number()?;
        self.take(usize::from(length))
    }
}

const CLIENT_HELLO: u8 = 1;
const HOST_NAME: u8 = 0;
const SERVER_NAME: u16 = 0;
const ENCRYPTED_HELLO: u16 = 0xfe0d;
/// `encrypted_server_name`, the draft before ECH.
const ENCRYPTED_NAME: u16 = 0xffce;
const MOST_IN_RECORD: usize = 1 << 14;
