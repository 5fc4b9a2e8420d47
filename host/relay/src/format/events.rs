//! Server-Sent Events: the lines of `json`, each as an event's data. Only checkpoints have an id, so that a browser which
//! connects again tells the last checkpoint (`Last-Event-ID`) and gets what followed it.

use tidemill_event::Checkpoint;

use super::json::{checkpoint_text, push_checkpoint};

/// Writes lines of changes as events.
pub(crate) fn push_changes(out: &mut Vec<u8>, lines: &[u8]) {
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        out.extend_from_slice(b"event: change\ndata: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
}

/// Writes where the reader is.
pub(crate) fn push_checkpoint_event(out: &mut Vec<u8>, checkpoint: Option<&Checkpoint>) {
    if let Some(checkpoint) = checkpoint {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(checkpoint_text(checkpoint).as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"event: checkpoint\ndata: ");
    push_checkpoint(out, checkpoint);
    out.push(b'\n');
}
