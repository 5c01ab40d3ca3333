//! Manifests, as people write them.

use weir_policy::compile;
use weir_policy::k8s;
use weir_policy::world::World;

/// A text of documents: whatever can be read becomes a world, from which the state of its nodes follows.
pub fn manifests(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut world = World::default();
    let (values, rejections) = k8s::read_documents(text);
    for rejection in rejections {
        let _ = rejection.to_string();
    }
    for value in values.into_iter().flat_map(k8s::flatten) {
        match k8s::object(&value) {
            Ok((object, warnings)) => {
                for warning in warnings {
                    let _ = warning.to_string();
                }
                assert_eq!(k8s::object(&value).expect("it was read before").0, object);
                if let Some(object) = object {
                    let _ = object.title();
                    object.put(&mut world);
                }
            }
            Err(rejection) => {
                let _ = rejection.to_string();
            }
        }
    }
    let nodes = world.nodes.keys().chain(world.all_pods().map(|pod| &pod.node));
    for node in nodes.take(4) {
        let _ = compile::node_state(&world, node);
    }
}
