"""The protocol without sockets: frames in and out of bytes, live values in and out of frames, codecs."""
