//! Drives a Chromium by its DevTools protocol: messages of JSON over two pipes, each with a zero byte at its end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::gpu_run::stop;

/// A browser with one page. It ends with this value.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    number: u64,
    session: Option<String>,
    /// What the page wrote into its console, and exceptions that nobody caught.
    pub console: Vec<String>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

impl Browser {
    /// Starts a browser and opens an empty page. What the browser itself prints is the second value.
    pub fn start(
        program: &Path,
        flags: &[String],
        env: &[(String, String)],
        deadline: Instant,
    ) -> Result<(Self, ChildStderr)> {
        // The protocol's pipes are the descriptors 3 and 4.
        let mut child = Command::new("/bin/sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>&2"])
            .arg(program)
            .arg("--remote-debugging-pipe")
            .args(flags)
            .envs(env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("could not start Chromium")?;
        let input = child.stdin.take().context("Chromium has no input")?;
        let output = child.stdout.take().context("Chromium has no output")?;
        let complaints = child.stderr.take().context("Chromium has no error output")?;
        let (send, messages) = channel();
        thread::spawn(move || {
            for message in BufReader::new(output).split(0).map_while(Result::ok) {
                if let Ok(message) = serde_json::from_slice::<Value>(&message)
                    && send.send(message).is_err()
                {
                    break;
                }
            }
        });
        let mut browser = Browser { child, input, messages, number: 0, session: None, console: Vec::new() };
        let page = browser.call("Target.createTarget", json!({ "url": "about:blank" }), deadline)?;
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach, deadline)?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        browser.call("Runtime.enable", json!({}), deadline)?;
        Ok((browser, complaints))
    }

    /// Opens an address and waits until its document and scripts are there.
    pub fn open(&mut self, url: &str, deadline: Instant) -> Result<()> {
        let answer = self.call("Page.navigate", json!({ "url": url }), deadline)?;
        if let Some(error) = answer["errorText"].as_str() {
            bail!("{url}: {error}");
        }
        let loaded = "location.href !== 'about:blank' && document.readyState === 'complete'";
        while self.evaluate(loaded, deadline).unwrap_or_default() != true {
            if Instant::now() >= deadline {
                bail!("{url} did not load in time");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The value of an expression in the page, which may be a promise.
    pub fn evaluate(&mut self, expression: &str, deadline: Instant) -> Result<Value> {
        let wish = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", wish, deadline)?;
        if !answer["exceptionDetails"].is_null() {
            bail!("the page failed: {}", exception(&answer["exceptionDetails"]));
        }
        Ok(answer["result"]["value"].clone())
    }

    fn call(&mut self, method: &str, parameters: Value, deadline: Instant) -> Result<Value> {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).context("Chromium has ended")?;
        self.input.flush()?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = match self.messages.recv_timeout(left) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => bail!("{method}: no answer in time"),
                Err(RecvTimeoutError::Disconnected) => bail!("{method}: Chromium has ended"),
            };
            if message["id"] == self.number {
                if let Some(error) = message["error"]["message"].as_str() {
                    bail!("{method}: {error}");
                }
                return Ok(message["result"].clone());
            }
            self.note(&message);
        }
    }

    fn note(&mut self, message: &Value) {
        let parameters = &message["params"];
        if message["method"] == "Runtime.exceptionThrown" {
            self.console.push(exception(&parameters["exceptionDetails"]));
        } else if message["method"] == "Runtime.consoleAPICalled" {
            let words = parameters["args"].as_array().into_iter().flatten();
            let text = |word: &Value| {
                word["value"].as_str().map_or_else(|| word["description"].to_string(), str::to_owned)
            };
            self.console.push(words.map(text).collect::<Vec<_>>().join(" "));
        }
    }
}

fn exception(details: &Value) -> String {
    let thrown = &details["exception"];
    thrown["description"]
        .as_str()
        .or(thrown["value"].as_str())
        .or(details["text"].as_str())
        .unwrap_or("?")
        .to_owned()
}
