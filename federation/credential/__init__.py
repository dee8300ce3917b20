"""Certificates as a machine reads them: SD-JWT VC for phones, a COSE-signed QR code for paper, status lists for both."""
