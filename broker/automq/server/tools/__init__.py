"""What works on a store without a broker: doctor, fsck, dump, repair, erase."""
