#!/bin/sh
# Run in the image by ubuntu-image. What the package depends on is there already (extra-packages).
set -eu
dpkg --install /var/lib/nodeagent.deb
rm /var/lib/nodeagent.deb /var/lib/nodeagent-install.sh
