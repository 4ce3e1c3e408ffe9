"""Object stores: memory, a folder, S3; creating exactly once on top of any of them; and the doctor that examines one.

`uri.open_store` makes an adapter from a store URI. What every adapter promises is `ports.ObjectStorage`; the suite in
`tests/contract` holds all of them to it.
"""
