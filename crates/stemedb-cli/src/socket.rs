//! HTTP over a socket in the file system: the node's admin socket, which the mode of the file guards.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// Connects to one socket, whatever the URL says.
#[derive(Debug)]
pub(crate) struct SocketConnector(pub(crate) PathBuf);

impl Connector<()> for SocketConnector {
    type Out = SocketTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<SocketTransport>, Error> {
        let stream = UnixStream::connect(&self.0)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(SocketTransport { stream, buffers }))
    }
}

#[derive(Debug)]
pub(crate) struct SocketTransport {
    stream: UnixStream,
    buffers: LazyBuffers,
}

/// What a read or write that took too long is called.
fn timed_out(error: std::io::Error, timeout: &NextTimeout) -> Error {
    match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            Error::Timeout(timeout.reason)
        }
        _ => error.into(),
    }
}

impl Transport for SocketTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_write_timeout(timeout.not_zero().map(|left| *left))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        match self.stream.write_all(output) {
            // The server answered and closed without reading all of the request. That fails here and
            // not over TCP, where the kernel takes the bytes; the answer waits to be read.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|error| timed_out(error, &timeout)),
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.set_read_timeout(timeout.not_zero().map(|left| *left))?;
        let input = self.buffers.input_append_buf();
        let read = self.stream.read(input).map_err(|error| timed_out(error, &timeout))?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        // A connection may have ended since; asking for another costs nothing here.
        false
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::remote::Remote;

    /// What takes no body is answered before the body was read, and the connection is closed.
    #[test]
    fn an_answer_before_the_whole_request_was_sent_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 16]).unwrap();
            let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let remote = Remote::new(&format!("unix:{}", path.display()), None).unwrap();
        // More than the socket holds, so that some is still to be sent then.
        let body = vec![b' '; 8 << 20];
        let answer = remote.post("/", "application/json", &body).unwrap();
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "{}"));
        server.join().unwrap();
    }
}
