// SPDX-License-Identifier: MIT
//! A small HTTP service with one dependency: it counts its requests.
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

fn setting(name: &str, fallback: &str) -> String {
    env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| fallback.to_string())
}

fn answer(mut stream: TcpStream, count: u64) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    println!("{}", request.trim_end());
    let mut digits = itoa::Buffer::new();
    let body = format!("hello from rust (request {})\n", digits.format(count));
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
        body.len(),
        body
    )
}

fn main() -> std::io::Result<()> {
    let address = format!("{}:{}", setting("HOST", "127.0.0.1"), setting("PORT", "8080"));
    let listener = TcpListener::bind(&address)?;
    println!("listening on http://{}/", address);
    for (count, stream) in (1..).zip(listener.incoming()) {
        if let Err(error) = stream.and_then(|stream| answer(stream, count)) {
            eprintln!("{}", error);
        }
    }
    Ok(())
}
