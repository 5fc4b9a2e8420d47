//! Copies tables under a policy: in parallel, without locks, no transaction longer than a chunk, resumable chunk by chunk.
