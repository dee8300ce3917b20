"""The one place where gRPC servers, channels and their credentials are built: mTLS, or plaintext on loopback by an
explicit setting.
"""
