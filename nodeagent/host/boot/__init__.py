"""cmdline.txt and config.txt, as the firmware and the kernel read them."""
