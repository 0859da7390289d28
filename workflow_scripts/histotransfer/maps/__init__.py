"""Maps of slides: probabilities as images and GeoJSON, false tiles, metastases and stages."""
