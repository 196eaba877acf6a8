//! What peers need that is not part of this program.

use std::path::PathBuf;

use clap::Args;

use super::Peer;
use super::go::Go;
use super::java::Java;
use super::node::Node;
use crate::failure::Failure;

/// Where it is.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct KitArgs {
    /// The folder of a Java development kit, for the JVM's collectors [default: JAVA_HOME, else
    /// where `java` is on the path]
    #[arg(long, value_name = "DIR", requires = "peer")]
    pub(crate) jdk: Option<PathBuf>,

    /// The program of Node.js, for v8 [default: `node` on the path]
    #[arg(long, value_name = "PROGRAM", requires = "peer")]
    pub(crate) node: Option<PathBuf>,

    /// The program of Go's toolchain, for go [default: `go` on the path]
    #[arg(long, value_name = "PROGRAM", requires = "peer")]
    pub(crate) go: Option<PathBuf>,
}

/// An option that says where something is: its name, whether it was given, which peers need that,
/// and who they are.
type Place = (&'static str, bool, fn(Peer) -> bool, &'static str);

/// What there is of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kits {
    pub(crate) java: Option<Java>,
    pub(crate) node: Option<Node>,
    pub(crate) go: Option<Go>,
    /// The peers that cannot be run here, each with why.
    missing: Vec<(Peer, String)>,
}

impl KitArgs {
    /// What these peers need. One that was named and cannot be used is refused, and so is one that
    /// no peer needs; a peer whose kit was not named and is not installed is left out.
    pub(crate) fn find(&self, peers: &[Peer]) -> Result<Kits, Failure> {
        let (is_v8, is_go) = (|peer: Peer| peer == Peer::V8, |peer: Peer| peer == Peer::Go);
        let named: [Place; 3] = [
            ("--jdk", self.jdk.is_some(), Peer::is_of_jvm, "collectors of the JVM"),
            ("--node", self.node.is_some(), is_v8, "v8"),
            ("--go", self.go.is_some(), is_go, "go"),
        ];
        for (option, is_named, needs, who) in named {
            if is_named && !peers.iter().any(|&peer| needs(peer)) {
                return Err(Failure::input(format!("{option} is for {who}, and --peer names none of these")));
            }
        }
        let mut kits = Kits::default();
        for &peer in peers {
            let (found, is_named) = match peer {
                Peer::Manual => (Ok(()), false),
                Peer::V8 => (Node::find(self.node.as_deref()).map(|node| kits.node = Some(node)), self.node.is_some()),
                Peer::Go => (Go::find(self.go.as_deref()).map(|go| kits.go = Some(go)), self.go.is_some()),
                // One for all three.
                _ if kits.java.is_some() => (Ok(()), false),
                _ => (Java::find(self.jdk.as_deref()).map(|java| kits.java = Some(java)), self.jdk.is_some()),
            };
            match found {
                Ok(()) => {}
                Err(why) if is_named => return Err(Failure::input(format!("--peer {peer}: {why}"))),
                Err(why) => kits.missing.push((peer, why)),
            }
        }
        Ok(kits)
    }
}

impl Kits {
    /// Whether the peer can be run.
    pub(crate) fn have(&self, peer: Peer) -> bool {
        !self.missing.iter().any(|(missing, _)| *missing == peer)
    }

    /// Of each peer that cannot, a sentence.
    pub(crate) fn left_out(&self) -> Vec<String> {
        self.missing.iter().map(|(peer, why)| format!("{peer} is left out: {why}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_must_be_there_and_be_needed() {
        let jdk = KitArgs { jdk: Some("/nowhere/jdk".into()), ..KitArgs::default() };
        let said = jdk.find(&[Peer::G1]).unwrap_err();
        assert!(
            said.code() == 2 && said.line().contains("--peer g1: there is no usable `java` in /nowhere/jdk"),
            "{said}"
        );
        assert!(jdk.find(&[Peer::Manual, Peer::V8]).unwrap_err().line().contains("--jdk is for collectors of the JVM"));
        let node = KitArgs { node: Some("/nowhere/node".into()), ..KitArgs::default() };
        assert!(node.find(&[Peer::V8]).unwrap_err().line().contains("--peer v8: there is no usable `/nowhere/node`"));
        assert!(node.find(&[Peer::G1]).unwrap_err().line().contains("--node is for v8"));
        let go = KitArgs { go: Some("/nowhere/go".into()), ..KitArgs::default() };
        assert!(go.find(&[Peer::Go]).unwrap_err().line().contains("--peer go: there is no usable `/nowhere/go`"));
        assert!(go.find(&[Peer::V8]).unwrap_err().line().contains("--go is for go"));
        let none = KitArgs::default().find(&[Peer::Manual]).unwrap();
        assert!(none.have(Peer::Manual) && none.java.is_none() && none.left_out().is_empty());
    }

    #[test]
    fn a_peer_that_is_not_installed_is_left_out() {
        let kits = Kits { missing: vec![(Peer::Zgc, "no java".into())], ..Kits::default() };
        assert_eq!((kits.have(Peer::Zgc), kits.have(Peer::V8)), (false, true));
        assert_eq!(kits.left_out(), ["zgc is left out: no java"]);
    }
}
