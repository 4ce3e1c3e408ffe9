"""Who a client is and what it may do: sessions, and the ports that authorization and quotas will be behind.

Everybody is anonymous, may do everything and is never made to wait, as on a Kafka without security settings.
"""
