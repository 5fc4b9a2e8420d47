//! The bindings of the contract, made from `wit/` when this crate is compiled.
//!
//! There is one world for each interface that a guest may export, so that a guest exports
//! `lifecycle` and whatever else it is: the linker joins them. Types and the `host` interface exist
//! once, in `base`; the others take them from there.
//!
//! Guest authors use what the other modules make of this; only the export macros name it.

#![allow(missing_docs, reason = "the documentation is in wit/guest.wit")]
#![allow(unsafe_op_in_unsafe_fn, reason = "generated code")]
#![allow(clippy::all, reason = "generated code")]

pub mod base {
    //! Types, what every guest may call, and what every guest exports.
    wit_bindgen::generate!({
        inline: r#"
            package tidemill:sdk;
            world base {
                import tidemill:guest/types@0.2.1;
                import tidemill:guest/host@0.2.1;
                export tidemill:guest/lifecycle@0.2.1;
            }
        "#,
        path: "../../wit",
        world: "tidemill:sdk/base",
        pub_export_macro: true,
        export_macro_name: "export_base",
        default_bindings_module: "tidemill_guest::bindings::base",
        additional_derives: [PartialEq, Clone],
        generate_unused_types: true,
        generate_all,
    });
}

pub mod filter {
    //! Interface `row-filter`.
    wit_bindgen::generate!({
        inline: r#"
            package tidemill:sdk;
            world filter {
                export tidemill:guest/row-filter@0.2.1;
            }
        "#,
        path: "../../wit",
        world: "tidemill:sdk/filter",
        pub_export_macro: true,
        export_macro_name: "export_filter",
        default_bindings_module: "tidemill_guest::bindings::filter",
        additional_derives: [PartialEq, Clone],
        generate_all,
        with: {
            "tidemill:guest/types@0.2.1": crate::bindings::base::tidemill::guest::types,
        },
    });
}

pub mod projection {
    //! Interface `row-projection`.
    wit_bindgen::generate!({
        inline: r#"
            package tidemill:sdk;
            world projection {
                export tidemill:guest/row-projection@0.2.1;
            }
        "#,
        path: "../../wit",
        world: "tidemill:sdk/projection",
        pub_export_macro: true,
        export_macro_name: "export_projection",
        default_bindings_module: "tidemill_guest::bindings::projection",
        additional_derives: [PartialEq, Clone],
        generate_all,
        with: {
            "tidemill:guest/types@0.2.1": crate::bindings::base::tidemill::guest::types,
        },
    });
}

pub mod policy {
    //! Interface `clone-policy`.
    wit_bindgen::generate!({
        inline: r#"
            package tidemill:sdk;
            world policy {
                export tidemill:guest/clone-policy@0.2.1;
            }
        "#,
        path: "../../wit",
        world: "tidemill:sdk/policy",
        pub_export_macro: true,
        export_macro_name: "export_policy",
        default_bindings_module: "tidemill_guest::bindings::policy",
        additional_derives: [PartialEq, Clone],
        generate_all,
        with: {
            "tidemill:guest/types@0.2.1": crate::bindings::base::tidemill::guest::types,
        },
    });
}

pub mod consumer {
    //! Interface `change-consumer`.
    wit_bindgen::generate!({
        inline: r#"
            package tidemill:sdk;
            world consumer {
                import tidemill:guest/output@0.2.1;
                import tidemill:guest/state@0.2.1;
                export tidemill:guest/change-consumer@0.2.1;
            }
        "#,
        path: "../../wit",
        world: "tidemill:sdk/consumer",
        pub_export_macro: true,
        export_macro_name: "export_consumer",
        default_bindings_module: "tidemill_guest::bindings::consumer",
        additional_derives: [PartialEq, Clone],
        generate_all,
        with: {
            "tidemill:guest/types@0.2.1": crate::bindings::base::tidemill::guest::types,
        },
    });
}
