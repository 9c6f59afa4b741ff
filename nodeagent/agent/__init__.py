"""The root process: prepares the node, forms or joins the cluster, keeps it."""
