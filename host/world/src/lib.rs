//! Seams to the outside world. Object stores are opened here and nowhere else, and asked whether they keep what they are
//! told to keep; tests wrap them in a twin that fails, throttles and lies. What a process uses of its machine is read here.
//!
//! # Object stores
//!
//! | URL | store | settings, from the environment |
//! |---|---|---|
//! | `file:///directory` | a directory, made where it is not there | none |
//! | `s3://bucket/prefix` | S3 and what speaks as it does | `AWS_REGION`, `AWS_ENDPOINT_URL` (a store that is not Amazon's), `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`; without a key: the role of the machine, the container or the web identity |
//! | `gs://bucket/prefix` | Google Cloud Storage | `GOOGLE_APPLICATION_CREDENTIALS` or `GOOGLE_SERVICE_ACCOUNT` (a file); without them: the machine's account |
//! | `az://container/prefix` | Azure's blob store | `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY` or `AZURE_STORAGE_SAS_KEY`, `AZURE_STORAGE_ENDPOINT` (a store that is not Microsoft's); without a key: the managed or federated identity |
//!
//! The clouds are there in a build with the feature `cloud`. Each reads the variables of its own prefix alone, so that
//! another program's `TOKEN` is never sent anywhere, and `…_ALLOW_HTTP=true` allows a store without encryption, as a test's.
//! Proxies come from `AWS_PROXY_URL` and its kin. Secrets belong into no URL, and are in no error and no debug text.

pub mod faulty;
pub mod objects;
mod probe;
#[cfg(feature = "cloud")]
mod quiet;
pub mod usage;
